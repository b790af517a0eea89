"""The least that asyncio can do: a yardstick, not a gateway.

One callback after another on parsers in C, all questions of a loop's turn in one write
to Redis. No bodies of requests, no streams, no deadlines, no back-pressure, no limit on
what waits: nobody could run this. `asyncio_proxy.py` has those.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import urlsplit

import hiredis
import httptools
import redis
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

_QUESTIONS = 2

Answered = Callable[[list[Any]], None]
Done = Callable[[bytes], None]


class Store(asyncio.Protocol):
    """Redis: two questions a request, one write a turn of the loop."""

    def __init__(self, script: str, password: str) -> None:
        self._script, self._password = script, password
        self._is_known = False
        self._reader = hiredis.Reader()
        self._waiting: deque[Answered] = deque()
        self._answers: list[Any] = []
        self._buffer: list[bytes] = []
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(_packed("AUTH", self._password))

    def ask(self, claims: dict[str, Any], answered: Answered) -> None:
        limit, seconds = settings.LIMITS[claims["role"]]
        if not self._buffer:
            asyncio.get_running_loop().call_soon(self._flush)
        caller = f"rl:{claims['sub']}"
        revoked = _packed("EXISTS", f"bl:{claims['jti']}")
        window = _packed("EVALSHA", self._script, 1, caller, limit, seconds * 1000)
        self._buffer += (revoked, window)
        self._waiting.append(answered)

    def _flush(self) -> None:
        self._transport.write(b"".join(self._buffer))
        self._buffer.clear()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not False:
            if not self._is_known:
                self._is_known = True
                continue
            self._answers.append(answer)
            if len(self._answers) == _QUESTIONS:
                answers, self._answers = self._answers, []
                self._waiting.popleft()(answers)


class Upstream(asyncio.Protocol):
    """One connection to the service; one exchange at a time."""

    idle: ClassVar[deque["Upstream"]] = deque()

    def __init__(self) -> None:
        self._transport: Any = None
        self._done: Done | None = None
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._head: list[bytes] = []
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self.idle:
            self.idle.remove(self)
        if self._done is not None:
            self._done(denial(502))

    def send(self, request: bytes, done: Done) -> None:
        self._done = done
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower not in {b"connection", b"content-length", b"transfer-encoding"}:
            self._head.append(b"%s: %s\r\n" % (name, value))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status, body = self._parser.get_status_code(), b"".join(self._body)
        answer = b"HTTP/1.1 %d -\r\n%s%scontent-length: %d\r\n\r\n%s" % (
            *(status, b"".join(self._head), ADDED),
            *(len(body), body),
        )
        done, self._done = self._done, None
        self._reset()
        self.idle.append(self)
        if done is not None:
            done(answer)


class Client(asyncio.Protocol):
    """One caller's connection."""

    def __init__(
        self, tokens: Tokens, store: Store, ids: "itertools.count[int]"
    ) -> None:
        self._tokens, self._store, self._ids = tokens, store, ids
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._start()

    def _start(self) -> None:
        self._url = b""
        self._token = b""
        self._head: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"authorization":
            self._token = value.removeprefix(b"Bearer ")
        if lower not in NOT_PASSED:
            self._head.append(b"%s: %s\r\n" % (name, value))

    def on_message_complete(self) -> None:
        claims = self._tokens.verify(self._token)
        if claims is None:
            self._transport.write(denial(401))
        else:
            self._ask(claims, self._parser.get_method(), self._url, self._head)
        self._start()

    def _ask(
        self, claims: dict[str, Any], method: bytes, url: bytes, head: list[bytes]
    ) -> None:
        def answered(answers: list[Any]) -> None:
            revoked, (passes, _) = answers
            if revoked or not passes:
                self._transport.write(denial(401 if revoked else 429))
                return
            request = b"%s %s HTTP/1.1\r\nhost: service\r\n%s%s\r\n" % (
                *(method, url, b"".join(head)),
                identity(claims, next(self._ids)),
            )
            if Upstream.idle:
                Upstream.idle.popleft().send(request, self._transport.write)
            else:
                connecting = _connect(request, self._transport.write)
                asyncio.get_running_loop().create_task(connecting)

        self._store.ask(claims, answered)


def _packed(*command: str | float) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type] # its stub says a tuple of one
    return packed


async def _connect(request: bytes, done: Done) -> None:
    loop = asyncio.get_running_loop()
    _, upstream = await loop.create_connection(Upstream, *settings.UPSTREAM)
    upstream.send(request, done)


async def serve() -> None:
    parts = urlsplit(settings.REDIS_URL)
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        script = client.script_load(settings.WINDOW)
    loop = asyncio.get_running_loop()
    _, store = await loop.create_connection(
        lambda: Store(script, parts.password or ""), "127.0.0.1", parts.port or 0
    )
    tokens, ids = Tokens(), itertools.count()
    server = await loop.create_server(
        lambda: Client(tokens, store, ids), sock=shared_socket(), backlog=BACKLOG
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
