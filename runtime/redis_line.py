"""A connection to one Redis server for commands that travel together.

The driver opens it: address, TLS, login and name are as in every other connection.
What is sent and answered then goes without the driver's streams, locks and timers,
which cost more than a decision does.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis
from redis._parsers import BaseParser
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as Lost

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
            # The driver wants a task of its own for its timeouts.
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
                connection = pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                try:
                    await connection.connect()
                except BaseException:
                    await connection.disconnect(nowait=True)
                    raise
                self._wire = _Wire(connection)
            return self._wire


class _Batch:
    """Commands under way, and the answers so far."""

    def __init__(self, size: int, done: "asyncio.Future[list[Any]]") -> None:
        self.size = size
        self.done = done
        self.answers: list[Any] = []


class _Wire(asyncio.Protocol):
    """Takes over what a connection of the driver has opened."""

    def __init__(self, connection: AbstractConnection) -> None:
        # The driver has no other way to hand its transport over.
        writer = connection._writer  # noqa: SLF001
        connection._writer = connection._reader = None  # noqa: SLF001
        if writer is None:
            raise Lost("closed before it was used")
        self._loop = asyncio.get_running_loop()
        self._writer = writer
        self._reader = hiredis.Reader(
            protocolError=Lost,
            replyError=BaseParser.parse_error,
            notEnoughData=_MORE,
        )
        self._asked: deque[_Batch] = deque()
        writer.transport.set_protocol(self)

    @property
    def is_lost(self) -> bool:
        return self._writer.transport.is_closing()

    def ask(self, commands: Sequence[Command]) -> "asyncio.Future[list[Any]]":
        done = self._loop.create_future()
        self._asked.append(_Batch(len(commands), done))
        self._writer.write(b"".join(map(_pack, commands)))
        return done

    def cut(self) -> None:
        """Whoever still waits is told that the connection is lost."""
        self._writer.transport.abort()

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
