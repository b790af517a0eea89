"""Which requests have no row yet: the one question that evidence asks the ledger."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID

import asyncpg

from runtime.contracts import TABLE_USAGE_LOGS
from runtime.postgres import DatabaseUnavailable, connect_pool, wrap_errors
from usage_sink.errors import LedgerUnavailable
from usage_sink.values import instant

#: A request's id as `UUID.int`, and its start in Unix seconds with six decimals.
Key = tuple[int, str]

_BATCH: Final = 2000
_CONNECTIONS: Final = 1

# The bounds let the planner leave out every other day's partition.
_ABSENT: Final = f"""
SELECT id FROM unnest($1::uuid[], $2::timestamptz[]) AS asked(id, created_at)
WHERE NOT EXISTS (
    SELECT FROM {TABLE_USAGE_LOGS} l
    WHERE l.id = asked.id AND l.created_at = asked.created_at
    AND l.created_at BETWEEN $3 AND $4
)
"""


class Presence(Protocol):
    """Knows the rows of the ledger by key."""

    async def absent(self, keys: Sequence[Key]) -> set[int]:
        """Ids of those that have no row.

        Raises:
            LedgerUnavailable: no answer.
        """


class MemoryPresence:
    """The twin for tests: what is in `rows` is there."""

    def __init__(self) -> None:
        self.rows: set[Key] = set()
        self.is_away = False

    async def absent(self, keys: Sequence[Key]) -> set[int]:
        if self.is_away:
            raise LedgerUnavailable
        return {key[0] for key in keys if key not in self.rows}


class PostgresPresence:
    """Asks the ledger over a connection of its own, opened at the first question."""

    def __init__(self, dsn: str, timeout_s: float) -> None:
        self._dsn = dsn
        self._timeout_s = timeout_s
        self._pool: asyncpg.Pool | None = None

    async def absent(self, keys: Sequence[Key]) -> set[int]:
        found: set[int] = set()
        for first in range(0, len(keys), _BATCH):
            found |= await self._ask(keys[first : first + _BATCH])
        return found

    async def pool(self) -> asyncpg.Pool:
        """Raises LedgerUnavailable: no answer."""
        if self._pool is None:
            try:
                self._pool = await connect_pool(
                    self._dsn,
                    max_size=_CONNECTIONS,
                    command_timeout_s=self._timeout_s,
                    connect_deadline_s=0,
                )
            except DatabaseUnavailable as error:
                raise LedgerUnavailable(str(error)) from error
        return self._pool

    def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    async def _ask(self, keys: Sequence[Key]) -> set[int]:
        pool = await self.pool()
        ids = [UUID(int=id_) for id_, _ in keys]
        starts = [instant(start) or datetime.fromtimestamp(0, UTC) for _, start in keys]
        try:
            with wrap_errors():
                rows = await pool.fetch(_ABSENT, ids, starts, min(starts), max(starts))
        except DatabaseUnavailable as error:
            raise LedgerUnavailable(str(error)) from error
        return {row["id"].int for row in rows}
