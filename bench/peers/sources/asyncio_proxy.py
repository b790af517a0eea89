"""A gateway by hand on asyncio, as one would run it.

uvloop, streams, verified tokens kept, both questions to Redis in one round trip,
upstream connections kept; bodies stream both ways with back-pressure, and every wait
has a deadline.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections import deque
from contextlib import suppress
from typing import Any
from uuid import uuid4

import redis.asyncio
import uvloop

from bench.peers.sources import settings
from bench.peers.sources.edge import (
    ADDED,
    BACKLOG,
    NOT_PASSED,
    Tokens,
    denial,
    identity,
    shared_socket,
)

_CHUNK = 65_536
_REDIS_S, _UPSTREAM_S, _IDLE_S = 1.0, 15.0, 3600.0

Headers = list[tuple[bytes, bytes]]
Connection = tuple[StreamReader, StreamWriter]


class Proxy:
    """One process."""

    def __init__(self) -> None:
        self._tokens = Tokens()
        self._redis = redis.asyncio.from_url(settings.REDIS_URL)
        self._script = ""
        self._idle: deque[Connection] = deque()

    async def prepare(self) -> None:
        self._script = await self._redis.script_load(settings.WINDOW)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One caller's connection."""
        with suppress(OSError, EOFError, asyncio.LimitOverrunError, TimeoutError):
            while True:
                async with asyncio.timeout(_IDLE_S):
                    start, headers = await _head(reader)
                await self._answer(start, headers, reader, writer)
        writer.close()

    async def _answer(
        self, start: bytes, headers: Headers, reader: StreamReader, writer: StreamWriter
    ) -> None:
        given = dict(headers).get(b"authorization", b"")
        claims = self._tokens.verify(given.removeprefix(b"Bearer "))
        status = 401 if claims is None else await self._decide(claims)
        if claims is None or status:
            writer.write(denial(status))
            return
        passed = b"".join(b"%s: %s\r\n" % h for h in headers if h[0] not in NOT_PASSED)
        head = b"%s\r\nhost: service\r\n%s%s\r\n" % (
            *(start, passed),
            identity(claims, uuid4()),
        )
        async with asyncio.timeout(_UPSTREAM_S):
            upstream = await self._connection()
            upstream[1].write(head)
            await _body(headers, reader, upstream[1])
            status_line, answered = await _head(upstream[0])
            lines = b"".join(
                b"%s: %s\r\n" % h for h in answered if h[0] != b"connection"
            )
            writer.write(b"%s\r\n%s%s\r\n" % (status_line, lines, ADDED))
            await _body(answered, upstream[0], writer)
        self._idle.append(upstream)

    async def _decide(self, claims: dict[str, Any]) -> int:
        """0, or the status of a denial."""
        limit, seconds = settings.LIMITS[claims["role"]]
        async with (
            asyncio.timeout(_REDIS_S),
            self._redis.pipeline(transaction=False) as both,
        ):
            both.exists(f"bl:{claims['jti']}")
            caller = f"rl:{claims['sub']}"
            both.evalsha(self._script, 1, caller, limit, seconds * 1000)
            revoked, (passes, _) = await both.execute()
        if revoked:
            return 401
        return 0 if passes else 429

    async def _connection(self) -> Connection:
        while self._idle:
            reader, writer = self._idle.popleft()
            if not reader.at_eof():
                return reader, writer
        return await asyncio.open_connection(*settings.UPSTREAM)


async def _head(reader: StreamReader) -> tuple[bytes, Headers]:
    """The first line, and headers with names in lower case."""
    start, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    pairs = (line.partition(b":") for line in lines)
    return start, [(name.lower(), value.strip()) for name, _, value in pairs]


async def _body(headers: Headers, reader: StreamReader, writer: StreamWriter) -> None:
    """Pass it on as it comes."""
    found = dict(headers)
    if found.get(b"transfer-encoding") == b"chunked":
        await _chunks(reader, writer)
        return
    left = int(found.get(b"content-length", 0))
    while left:
        data = await reader.read(min(left, _CHUNK))
        if not data:
            raise EOFError
        writer.write(data)
        await writer.drain()
        left -= len(data)


async def _chunks(reader: StreamReader, writer: StreamWriter) -> None:
    size = -1
    while size:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        writer.write(line + await reader.readexactly(size + 2))
        await writer.drain()


async def main() -> None:
    proxy = Proxy()
    await proxy.prepare()
    server = await asyncio.start_server(
        proxy.serve, sock=shared_socket(), backlog=BACKLOG
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
