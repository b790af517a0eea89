"""An Envoy that is asked for more than its machine has."""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.integration.control.envoy_bench import a_bench, until

pytestmark = [pytest.mark.e2e, pytest.mark.alone]


async def test_more_connections_than_allowed_are_closed_and_the_rest_served(
    tmp_path: Path,
) -> None:
    async with a_bench(tmp_path, room={"max_connections": 10}) as bench:
        listen = bench.deployment.listen
        opened = [
            await asyncio.open_connection(listen.host, listen.port) for _ in range(20)
        ]

        async def is_full() -> bool:
            return await bench.stat("downstream_cx_overload_reject|cx_overflow") >= 1

        await until(is_full)
        reader, writer = opened[0]
        writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        for _, one in opened:
            one.close()

        async def is_served() -> bool:
            answers = await asyncio.gather(
                bench.client.get("/health"), return_exceptions=True
            )
            return getattr(answers[0], "status_code", 0) == 200

        await until(is_served)

    assert answer.startswith(b"HTTP/1.1 200")


async def test_without_memory_nothing_is_served_and_nothing_breaks(
    tmp_path: Path,
) -> None:
    """A request on an open connection gets 503, a new connection is closed."""
    # Less than Envoy itself takes: it never becomes better.
    async with a_bench(tmp_path, room={"max_heap_mb": 4}) as bench:

        async def is_refused() -> bool:
            try:
                answer = await bench.client.get("/echo")
            except httpx.TransportError:
                return True
            return answer.status_code == 503

        await until(is_refused)
        reached = len(bench.upstream.seen)
        refused = [await is_refused() for _ in range(10)]

        assert all(refused)
        assert len(bench.upstream.seen) == reached
        assert await bench.stat("overload.envoy.*heap.*pressure") >= 100
