"""The database as it comes and goes: control must run without it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from control.store import QueryTimeout, StoreUnavailable
from runtime import postgres
from runtime.clock import Clock
from runtime.lifecycle import wait_or_stop
from runtime.logs import get_logger
from runtime.postgres import DatabaseRejected, DatabaseUnavailable

log = get_logger(__name__)

#: By the server, or by us when it did not or had no connection free.
_STOPPED = (asyncpg.QueryCanceledError, TimeoutError)

RETRY_INTERVAL_S = 0.5
MAX_CONNECTIONS = 8
#: With so many in use, one question has no second connection.
_MANY = MAX_CONNECTIONS // 2
#: The server stops a query itself; only when it does not, the connection is given up.
_GRACE_S = 2.0


class Database:
    """A pool once the server was there; it reconnects by itself after that."""

    def __init__(
        self,
        dsn: str,
        timeout_s: float,
        clock: Clock,
        *,
        migrates: bool = True,
        query_timeout_s: float = 5.0,
    ) -> None:
        self._dsn = dsn
        self._query_timeout_s = query_timeout_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._migrates = migrates
        self._pool: asyncpg.Pool | None = None
        self._readers: asyncpg.Pool | None = None
        #: Who has a connection for questions, or waits for one.
        self._reading = 0

    @property
    def pool(self) -> asyncpg.Pool:
        """Raises DatabaseUnavailable: never reached so far."""
        return _connected(self._pool)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        """A connection for questions about the ledger: it can't write.

        Each statement ends within the query timeout, and so does the wait for a
        connection when all are in use.

        Raises:
            QueryTimeout: it took longer and was stopped.
            StoreUnavailable: no answer.
        """
        self._reading += 1
        try:
            with postgres.wrap_errors():
                readers = _connected(self._readers)
                async with readers.acquire(timeout=self._query_timeout_s) as one:
                    yield one
        except (DatabaseUnavailable, DatabaseRejected) as error:
            if isinstance(error.__cause__, _STOPPED):
                raise QueryTimeout from error
            raise StoreUnavailable(str(error)) from error
        finally:
            self._reading -= 1

    @asynccontextmanager
    async def reading_more(
        self,
    ) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy | None]:
        """A second one for who is `reading`; None: others need it more.

        Nobody waits for a second one, so nobody keeps a first one from others by that.
        """
        if self._reading > _MANY:
            yield None
            return
        async with self.reading() as one:
            yield one

    async def connect(self, stop: asyncio.Event) -> bool:
        """Connect and migrate as soon as the server answers; False if stopped."""
        while not stop.is_set():
            try:
                self._pool, self._readers = await self._open()
            except DatabaseUnavailable as error:
                log.warning("database not reachable yet", error=str(error))
                await wait_or_stop(stop, RETRY_INTERVAL_S)
            else:
                return True
        return False

    async def check(self) -> None:
        """A health check."""
        await postgres.ping(self.pool)

    async def close(self) -> None:
        for pool in (self._pool, self._readers):
            if pool is not None:
                pool.terminate()

    async def _open(self) -> tuple[asyncpg.Pool, asyncpg.Pool]:
        pool = await postgres.connect_pool(
            self._dsn,
            max_size=MAX_CONNECTIONS,
            command_timeout_s=self._timeout_s,
            connect_deadline_s=0.0,
            clock=self._clock,
        )
        try:
            with postgres.wrap_errors():
                await postgres.open_schema(
                    self._dsn, "control", migrates=self._migrates
                )
            readers = await postgres.connect_pool(
                self._dsn,
                max_size=MAX_CONNECTIONS,
                command_timeout_s=self._query_timeout_s + _GRACE_S,
                connect_deadline_s=0.0,
                clock=self._clock,
                server_settings={
                    "application_name": "hubgate-usage",
                    "default_transaction_read_only": "on",
                    "statement_timeout": f"{self._query_timeout_s * 1000:.0f}",
                    "timezone": "UTC",
                },
            )
        except BaseException:
            pool.terminate()
            raise
        return pool, readers


def _connected(pool: asyncpg.Pool | None) -> asyncpg.Pool:
    if pool is None:
        raise DatabaseUnavailable("not connected yet")
    return pool
