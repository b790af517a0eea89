"""Listens, looks after the connections, and stops with grace."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from runtime.http2.connection import Connection
from runtime.http2.inbox import Budget
from runtime.http2.limits import Limits
from runtime.http2.server import Server
from runtime.metrics import Metrics
from runtime.rpc import Calls, Method
from runtime.settings import Address

#: For handlers to end that were told to; they may be cleaning up.
_CANCELLED_WITHIN_S = 1.0


class Http2Transport:
    """Serves `methods` at `address`."""

    def __init__(
        self,
        address: Address,
        methods: Sequence[Method],
        calls: Calls,
        metrics: Metrics,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        self._address = address
        self._server = Server(
            methods={method.path.encode(): method for method in methods},
            calls=calls,
            metrics=metrics,
            limits=limits,
            budget=Budget(limits.unread),
        )
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self._checking: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen, and tell the port.

        Raises:
            RuntimeError: the address can't be bound.
        """
        loop = asyncio.get_running_loop()
        path = self._address.path
        try:
            if path is not None:
                # A socket file outlives a killed process and would refuse the bind.
                await asyncio.to_thread(Path(path).unlink, missing_ok=True)
                self._listener = await loop.create_unix_server(self._connection, path)
            else:
                self._listener = await loop.create_server(
                    self._connection, self._address.host, self._address.port
                )
        except OSError as error:
            raise RuntimeError(f"can't listen at {self._address}: {error}") from error
        self._checking = asyncio.create_task(self._check())
        name = self._listener.sockets[0].getsockname()
        return 0 if path is not None else int(name[1])

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let running ones end within `grace_s`, then cut them."""
        if self._listener is not None:
            self._listener.close()
        if self._checking is not None:
            self._checking.cancel()
        await self._drain(grace_s)
        handlers = [each for one in self._connections for each in one.handlers]
        for connection in list(self._connections):
            connection.cut()
        if handlers:
            await asyncio.wait(handlers, timeout=_CANCELLED_WITHIN_S)
        linger_s = self._server.limits.linger_s
        await _all([one.gone for one in self._connections], linger_s)
        for connection in list(self._connections):
            connection.abort()
        if self._address.path is not None:
            with suppress(FileNotFoundError):
                await asyncio.to_thread(Path(self._address.path).unlink)

    async def _drain(self, grace_s: float) -> None:
        if grace_s > 0:
            for connection in list(self._connections):
                connection.drain()
            await _all([one.ended for one in self._connections], grace_s)

    async def _check(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._server.limits.check_s)
            now = loop.time()
            for connection in list(self._connections):
                connection.check(now)

    def _connection(self) -> Connection:
        return Connection(self._server, self._connections)


async def _all(events: list[asyncio.Event], within_s: float) -> None:
    """Wait for them, but no longer than that."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await asyncio.gather(*(event.wait() for event in events))
