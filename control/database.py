"""The database as it comes and goes: control must run without it."""

import asyncio

import asyncpg
from sqlalchemy.exc import DBAPIError

from runtime import postgres
from runtime.clock import Clock
from runtime.lifecycle import wait_or_stop
from runtime.logs import get_logger
from runtime.postgres import DatabaseUnavailable

log = get_logger(__name__)

RETRY_INTERVAL_S = 0.5
MAX_CONNECTIONS = 8


class Database:
    """A pool once the server was there; it reconnects by itself after that."""

    def __init__(
        self, dsn: str, timeout_s: float, clock: Clock, *, migrates: bool = True
    ) -> None:
        self._dsn = dsn
        self._timeout_s = timeout_s
        self._clock = clock
        self._migrates = migrates
        self._pool: asyncpg.Pool | None = None

    @property
    def pool(self) -> asyncpg.Pool:
        """Raises DatabaseUnavailable: never reached so far."""
        if self._pool is None:
            raise DatabaseUnavailable("not connected yet")
        return self._pool

    async def connect(self, stop: asyncio.Event) -> bool:
        """Connect and migrate as soon as the server answers; False if stopped."""
        while not stop.is_set():
            try:
                self._pool = await self._open()
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
        if self._pool is not None:
            self._pool.terminate()

    async def _open(self) -> asyncpg.Pool:
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
        except DBAPIError as error:
            pool.terminate()
            raise DatabaseUnavailable(str(error.orig)) from error
        except BaseException:
            pool.terminate()
            raise
        return pool
