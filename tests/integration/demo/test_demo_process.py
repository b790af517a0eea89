"""A demo service as a process: started by environment, stopped by a signal."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[3]
DEADLINE_S = 20


async def start(name: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "local.demo",
        name,
        cwd=ROOT,
        env={"HUBGATE_DEMO_LISTEN": "127.0.0.1:0", **environment},
        stderr=asyncio.subprocess.PIPE,
    )


async def address_of(process: asyncio.subprocess.Process) -> str:
    """Read the log until the line that says where it serves."""
    assert process.stderr is not None
    async for line in process.stderr:
        entry = json.loads(line)
        if entry["event"] == "serving":
            return str(entry["address"])
    raise AssertionError("it ended without serving")


@pytest.mark.parametrize(
    ("name", "service"),
    [("auth", "auth-service"), ("core", "core-service"), ("mcp", "mcp-server")],
)
async def test_a_service_answers_and_ends_cleanly_on_sigterm(
    name: str, service: str, redis_url: str, tmp_path: Path
) -> None:
    secret = tmp_path / "jwt.secret"
    secret.write_bytes(b"k" * 32)
    async with asyncio.timeout(DEADLINE_S):
        process = await start(
            name, HUBGATE_REDIS_URL=redis_url, HUBGATE_JWT_SECRET_FILE=str(secret)
        )
        try:
            address = await address_of(process)
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.get(f"http://{address}/health")
            assert answer.json() == {"status": "ok", "service": service}
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        finally:
            await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """Leave no process, whatever the test saw."""
    if process.returncode is None:
        process.kill()
    await process.communicate()


async def test_every_missing_setting_is_named_and_no_traceback_shown() -> None:
    async with asyncio.timeout(DEADLINE_S):
        process = await start("auth")
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"HUBGATE_REDIS_URL" in errors
    assert b"HUBGATE_JWT_SECRET_FILE" in errors
    assert b"Traceback" not in errors
