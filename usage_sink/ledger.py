"""Opens the ledger: waits for PostgreSQL, brings its tables up to date, writes.

The service listens before this succeeds, and the spool takes what comes: a database
that is away at start delays rows and loses none.
"""

import asyncio
from typing import Final

import asyncpg

from runtime.clock import Clock
from runtime.lifecycle import wait_or_stop
from runtime.logs import get_logger
from runtime.postgres import DatabaseUnavailable, connect_pool, open_schema, ping
from usage_sink.chain import Chain
from usage_sink.compaction import keep_compacted
from usage_sink.loader import Loader
from usage_sink.partitions import keep_partitions, make_partitions
from usage_sink.settings import Settings
from usage_sink.store_postgres import PostgresUsageStore

log = get_logger(__name__)

_RETRY_S: Final = 1.0
#: The loader's two, the partitions, the sums of days and the health check.
_CONNECTIONS: Final = 5


class Ledger:
    """One process's connection to the ledger."""

    def __init__(
        self, settings: Settings, clock: Clock, loader: Loader, chain: Chain
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._loader = loader
        self._chain = chain
        self._pool: asyncpg.Pool | None = None

    async def check(self) -> None:
        """A health check.

        Raises:
            DatabaseUnavailable: no answer, or not open yet.
        """
        if self._pool is None:
            raise DatabaseUnavailable("not open yet")
        await ping(self._pool)

    async def run(self, stop: asyncio.Event) -> None:
        """Open, then load until the loader is closed."""
        pool = await self._open_until(stop)
        if pool is None:
            return
        self._pool = pool
        days = self._settings.usage_sink_partition_days
        interval_s = self._settings.usage_sink_compaction_interval_s
        beside = [
            asyncio.create_task(keep_partitions(pool, self._clock, days, stop)),
            asyncio.create_task(keep_compacted(pool, self._clock, interval_s, stop)),
        ]
        try:
            await self._loader.run(PostgresUsageStore(pool, self._chain))
        finally:
            for task in beside:
                task.cancel()
            self._pool = None
            pool.terminate()  # nothing is under way that could still be kept

    async def _open_until(self, stop: asyncio.Event) -> asyncpg.Pool | None:
        while True:
            try:
                return await self._open()
            except (DatabaseUnavailable, OSError) as error:
                log.warning("ledger can't be opened yet", why=type(error).__name__)
            if await wait_or_stop(stop, _RETRY_S):
                return None

    async def _open(self) -> asyncpg.Pool:
        settings = self._settings
        pool = await connect_pool(
            settings.database_url,
            max_size=_CONNECTIONS,
            command_timeout_s=settings.database_timeout_s,
            connect_deadline_s=0,
            clock=self._clock,
        )
        try:
            await open_schema(
                settings.database_url, "usage_sink", migrates=settings.migrate
            )
            days = settings.usage_sink_partition_days
            await make_partitions(pool, self._clock.now(), days)
        except BaseException:
            pool.terminate()
            raise
        return pool
