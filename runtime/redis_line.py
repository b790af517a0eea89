"""A connection to one Redis server for commands that travel together.

Address, TLS, login and name are those of the driver's own connections. What is sent
and answered goes without the driver's streams, locks and timers, which cost more than a
decision does.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import hiredis
from redis.asyncio import Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection, Connection, DefaultParser
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import TimeoutError as Late

from runtime.redis import Command

_MORE: Final = object()
# Its stub knows commands of one word only.
_pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]


class Line:
    """Opens when it is used first, and again after it was lost.

    It has no deadline of its own: who gives up cancels `carry`, and the connection is
    closed, so that a late answer is never taken for another's.
    """

    def __init__(self, client: "Redis") -> None:
        self._client = client
        self._opening = asyncio.Lock()
        self._wire: _Wire | None = None

    async def carry(self, commands: Sequence[Command]) -> list[Any]:
        """The answers in one round trip; an error that Redis answers is one of them.

        Raises:
            RedisError, OSError: no answers.
        """
        wire = self._wire
        if wire is None or wire.is_lost:
            # A deadline is a task's, and whoever carries may be none.
            wire = await asyncio.create_task(self._open())
        try:
            return await wire.ask(commands)
        except asyncio.CancelledError:
            wire.cut()
            raise

    def close(self) -> None:
        if self._wire is not None:
            self._wire.cut()

    async def _open(self) -> "_Wire":
        async with self._opening:
            if self._wire is None or self._wire.is_lost:
                pool = self._client.connection_pool
                like = pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                try:
                    async with asyncio.timeout(like.socket_connect_timeout):
                        self._wire = await _opened(like)
                except TimeoutError as error:
                    raise Late("not connected in time") from error
                except OSError as error:
                    raise Lost(f"not connected: {error}") from error
            return self._wire


async def _opened(like: AbstractConnection) -> "_Wire":
    """To where `like` would connect, logged in as it would be; it is left unused."""
    wire = await _connected(like)
    try:
        answers = await wire.ask(_greeting(like))
    except asyncio.CancelledError:
        wire.cut()
        raise
    for answer in answers:
        if isinstance(answer, Exception):
            wire.cut()
            raise answer
    return wire


async def _connected(like: AbstractConnection) -> "_Wire":
    loop = asyncio.get_running_loop()
    if isinstance(like, UnixDomainSocketConnection):
        _, wire = await loop.create_unix_connection(_Wire, like.path)
        return wire
    if not isinstance(like, Connection):
        raise TypeError(f"no way to open a {type(like).__name__}")
    tls = like.ssl_context.get() if isinstance(like, SSLConnection) else None
    transport, wire = await loop.create_connection(_Wire, like.host, like.port, ssl=tls)
    if like.socket_keepalive:
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        options: Any = like.socket_keepalive_options  # its stub says: an object
        for option, value in options.items():
            raw.setsockopt(socket.IPPROTO_TCP, option, value)
    return wire


def _greeting(like: AbstractConnection) -> list[Command]:
    """By https://redis.io/docs/latest/commands/hello (Redis 6 and later)."""
    hello: Command = ("HELLO", like.protocol)
    if like.username or like.password:
        hello += ("AUTH", like.username or "default", like.password or "")
    if like.client_name:
        hello += ("SETNAME", like.client_name)
    # A user may not be allowed to choose what is chosen already.
    return [hello, ("SELECT", like.db)] if like.db else [hello]


class _Batch:
    """Commands under way, and the answers so far."""

    def __init__(self, size: int, done: "asyncio.Future[list[Any]]") -> None:
        self.size = size
        self.done = done
        self.answers: list[Any] = []


class _Wire(asyncio.Protocol):
    """One connection: what is sent and what is answered."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(
            protocolError=Lost,
            replyError=DefaultParser.parse_error,
            notEnoughData=_MORE,
        )
        self._asked: deque[_Batch] = deque()

    @property
    def is_lost(self) -> bool:
        return self._transport.is_closing()

    def ask(self, commands: Sequence[Command]) -> "asyncio.Future[list[Any]]":
        done = self._loop.create_future()
        self._asked.append(_Batch(len(commands), done))
        self._transport.write(b"".join(map(_pack, commands)))
        return done

    def cut(self) -> None:
        """Whoever still waits is told that the connection is lost."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not _MORE:
                # Redis tells what nobody asked: not an answer.
                if not isinstance(answer, hiredis.PushNotification):
                    self._take(answer)
        except Lost:  # what came is no answer of Redis
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        while self._asked:
            batch = self._asked.popleft()
            if not batch.done.done():
                batch.done.set_exception(Lost("connection lost"))

    def _take(self, answer: Any) -> None:
        if not self._asked:
            raise Lost("an answer that nobody asked for")
        batch = self._asked[0]
        batch.answers.append(answer)
        if len(batch.answers) == batch.size:
            self._asked.popleft()
            if not batch.done.done():
                batch.done.set_result(batch.answers)
