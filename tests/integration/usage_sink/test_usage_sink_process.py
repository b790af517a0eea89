"""`python -m usage_sink`."""

import asyncio
import sys
from pathlib import Path

import grpc
import grpc.aio
import pytest

pytestmark = pytest.mark.integration


async def test_it_stops_cleanly_on_a_signal(
    tmp_path: Path, fresh_database_url: str, redis_url: str
) -> None:
    address = f"unix:{tmp_path}/sink.sock"
    process = await start_process(
        HUBGATE_USAGE_SINK_LISTEN=address,
        HUBGATE_USAGE_SINK_SPOOL_DIR=str(tmp_path / "spool"),
        HUBGATE_DATABASE_URL=fresh_database_url,
        HUBGATE_REDIS_URL=redis_url,
    )
    async with asyncio.timeout(20), grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()

    process.terminate()

    async with asyncio.timeout(20):
        _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


async def test_bad_settings_are_named_all_at_once() -> None:
    process = await start_process(HUBGATE_REDIS_URL="http://x")

    _, errors = await process.communicate()

    assert process.returncode == 2
    for name in ("LISTEN", "SPOOL_DIR", "DATABASE_URL", "REDIS_URL"):
        assert f"{name}: " in errors.decode()


async def start_process(**environ: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "usage_sink"),
        env=environ,
        stderr=asyncio.subprocess.PIPE,
    )
