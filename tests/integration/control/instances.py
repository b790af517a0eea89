"""Instances of a service that misbehave on demand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum


class Mood(Enum):
    """How an instance answers."""

    WELL = "200"
    FAILING = "503"
    SICK = "503 to health checks only"
    RUDE = "reads the request and hangs up"


class Instance:
    """A small HTTP/1.1 server that can die like a killed process."""

    def __init__(self) -> None:
        self.mood = Mood.WELL
        self.methods: list[str] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, reuse_port=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def die(self) -> None:
        """Nothing listens any more, and every connection is reset."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._writers.add(writer)
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        method, path, _ = head.split(" ", 2)
        length = [
            int(line.partition(":")[2])
            for line in head.splitlines()
            if line.startswith("content-length:")
        ]
        await reader.readexactly(sum(length))
        is_check = path == "/check"
        if not is_check:
            self.methods.append(method.upper())
        if self.mood is Mood.RUDE:
            return False
        fails = self.mood is Mood.FAILING or (is_check and self.mood is Mood.SICK)
        status = "503 no" if fails else "200 OK"
        body = str(self.port)
        writer.write(
            f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )
        await writer.drain()
        return True


@asynccontextmanager
async def instances(count: int) -> AsyncIterator[list[Instance]]:
    """So many that are well."""
    running = [Instance() for _ in range(count)]
    for one in running:
        await one.start()
    try:
        yield running
    finally:
        for one in running:
            await one.die()
