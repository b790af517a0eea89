"""Who reads an export too slowly loses the place that others wait for."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import httpx
import pyarrow as pa
import pytest

from control.api import create_app
from control.audit import Action
from control.export import EXPORTED, ExportQuery, Snapshot
from control.export_files import batch
from control.exports import Exports
from control.pace import Pace
from runtime.clock import SystemClock
from runtime.ops_server import HttpServer
from runtime.settings import Address
from tests.builders_control import ADMIN_TOKEN, Parts, a_config
from tests.integration.control.envoy_bench import until

pytestmark = pytest.mark.integration

EXPORT = "/api/usage/export?format=ndjson"
HEADERS = {"authorization": f"Bearer {ADMIN_TOKEN}"}
#: What a reader takes at once who hardly reads.
SIP = 65_536


class ManyRows:
    """The same piece of some megabytes, `pieces` times."""

    def __init__(self, pieces: int) -> None:
        self._pieces = pieces
        row: dict[str, Any] = dict.fromkeys(EXPORTED)
        said = {"id": str(UUID(int=1)), "metadata": '{"a": "%s"}' % ("x" * 1_000)}
        self._piece = batch([{**row, **said}] * 2_000)

    async def snapshot(self) -> Snapshot:
        return Snapshot({})

    async def rows(
        self, query: ExportQuery, snapshot: Snapshot
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        for _ in range(self._pieces):
            yield self._piece


@dataclass
class Room:
    """A control with one place for exports, on a real socket."""

    parts: Parts
    api: httpx.AsyncClient
    port: int

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[socket.socket]:
        """Has the place, and reads no more; its own buffer is small."""
        loop = asyncio.get_running_loop()
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SIP)
            one.setblocking(False)  # noqa: FBT003 - the library's own signature
            await loop.sock_connect(one, ("127.0.0.1", self.port))
            head = f"GET {EXPORT} HTTP/1.1\r\nhost: c\r\nauthorization: Bearer "
            await loop.sock_sendall(one, f"{head}{ADMIN_TOKEN}\r\n\r\n".encode())
            status = b"HTTP/1.1 200 OK"
            async with asyncio.timeout(10):
                assert await loop.sock_recv(one, len(status)) == status
            yield one

    async def is_free(self) -> bool:
        async with self.api.stream("GET", EXPORT) as answer:
            return answer.status_code == 200

    @property
    def broken_off(self) -> float:
        return self.parts.metrics.value("hubgate_usage_exports_too_slow_total")


@asynccontextmanager
async def a_room(pace: Pace, pieces: int = 1_000_000) -> AsyncIterator[Room]:
    parts = Parts()
    await parts.changes.start(a_config())
    exports = Exports(ManyRows(pieces), parts.pseudonyms, at_once=1)
    deps = replace(parts.deps(), exports=exports, pace=pace, clock=SystemClock())
    server = HttpServer(create_app(deps), Address(host="127.0.0.1", port=0), 1.0)
    await server.start()
    url = f"http://127.0.0.1:{server.port}"
    try:
        async with httpx.AsyncClient(
            base_url=url, headers=HEADERS, trust_env=False, timeout=10
        ) as api:
            yield Room(parts, api, server.port)
    finally:
        await server.stop()


async def read_to_the_end(one: socket.socket, pause_s: float = 0.0) -> bytes:
    """What comes until the server ends it, `SIP` bytes at a time."""
    loop, found = asyncio.get_running_loop(), bytearray()
    async with asyncio.timeout(30):
        try:
            while some := await loop.sock_recv(one, SIP):
                found += some
                await asyncio.sleep(pause_s)
        except ConnectionResetError:
            pass
    return bytes(found)


async def test_who_does_not_read_loses_the_place() -> None:
    async with a_room(Pace(stall_s=2.0, least_rate=10**9)) as room, room.reader() as it:
        was_free = await room.is_free()
        await until(room.is_free)
        content = await read_to_the_end(it)

    assert not was_free
    assert content
    assert not content.endswith(b"0\r\n\r\n")
    assert room.broken_off == 1


async def test_who_reads_a_little_now_and_then_loses_it_too() -> None:
    async with a_room(Pace(stall_s=0.5, least_rate=10**8)) as room, room.reader() as it:
        reading = asyncio.create_task(read_to_the_end(it, pause_s=0.02))
        await until(room.is_free)
        was_reading = not reading.done()
        reading.cancel()

    assert was_reading
    assert room.broken_off == 1


async def test_who_reads_fast_enough_gets_all() -> None:
    async with a_room(Pace(), pieces=2) as room, room.reader() as it:
        content = b""
        while not content.endswith(b"0\r\n\r\n"):
            content += await asyncio.get_running_loop().sock_recv(it, SIP)
        await until(room.is_free)

    assert content.count(b'"metadata"') == 4_000
    assert room.broken_off == 0


async def test_why_it_broke_off_is_in_the_audit_log() -> None:
    async with a_room(Pace(stall_s=0.2, least_rate=10**9)) as room, room.reader():

        async def ended() -> list[Any]:
            entries = [one.entry for one in room.parts.audit.kept]
            return [one for one in entries if one.action is Action.EXPORT_ENDED]

        (entry,) = await until(ended)

    assert entry.details["brokenOff"] == "TooSlow"
