"""Revisions in PostgreSQL."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, Final

import asyncpg

from control.database import Database
from control.store import Revision, Status, StoreUnavailable
from runtime.contracts import (
    TABLE_CONFIG_REVISIONS,
    TABLE_USAGE_WATERMARKS,
)
from runtime.postgres import DatabaseRejected, DatabaseUnavailable, wrap_errors

# S608: only names of ours are put into these texts, values are parameters.
_ACTIVE: Final = f"""
SELECT * FROM {TABLE_CONFIG_REVISIONS} WHERE status = 'active'
ORDER BY rev DESC LIMIT 1
"""  # noqa: S608
_ACTIVE_REV: Final = f"""
SELECT coalesce(max(rev), 0) FROM {TABLE_CONFIG_REVISIONS} WHERE status = 'active'
"""  # noqa: S608
#: Any number, the same in every control.
_CHANGE_LOCK: Final = 0x6875_6267_6174_65
_LATEST_BY: Final = f"""
SELECT * FROM {TABLE_CONFIG_REVISIONS} WHERE author = $1 ORDER BY rev DESC LIMIT 1
"""  # noqa: S608
_LATEST_OF: Final = f"""
SELECT * FROM {TABLE_CONFIG_REVISIONS} WHERE document = $1 ORDER BY rev DESC LIMIT 1
"""  # noqa: S608
_REVISION: Final = f"""
SELECT * FROM {TABLE_CONFIG_REVISIONS} WHERE rev = $1
"""  # noqa: S608
_HISTORY: Final = f"""
SELECT rev, '{{}}'::jsonb AS document, author, comment, created_at, status, reason
FROM {TABLE_CONFIG_REVISIONS} WHERE rev < $1 ORDER BY rev DESC LIMIT $2
"""  # noqa: S608
_ADD: Final = f"""
INSERT INTO {TABLE_CONFIG_REVISIONS} (document, author, comment, status)
VALUES ($1, $2, $3, 'pending') RETURNING *
"""  # noqa: S608
_SETTLE: Final = f"""
UPDATE {TABLE_CONFIG_REVISIONS} SET status = $2, reason = $3
WHERE rev = $1 AND status = 'pending'
"""  # noqa: S608
WATERMARKS: Final = f"""
SELECT node, complete_through, basis, pending, is_closed, updated_at, closed_by_hand_at
FROM {TABLE_USAGE_WATERMARKS} ORDER BY node
"""  # noqa: S608


@contextmanager
def translated() -> Iterator[None]:
    """The driver's errors as StoreUnavailable."""
    try:
        with wrap_errors():
            yield
    except (DatabaseUnavailable, DatabaseRejected) as error:
        raise StoreUnavailable(str(error)) from error


class PostgresConfigStore:
    """The table `config_revisions`, which control owns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def active(self) -> Revision | None:
        return await self._one(_ACTIVE)

    async def active_rev(self) -> int:
        with translated():
            return int(await self._database.pool.fetchval(_ACTIVE_REV))

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """An advisory lock: it ends with its connection, whatever happens to us."""
        async with AsyncExitStack() as held:
            with translated():
                pool = self._database.pool
                connection = await held.enter_async_context(pool.acquire())
                await connection.execute("SELECT pg_advisory_lock($1)", _CHANGE_LOCK)
            held.push_async_callback(_unlock, connection)
            yield

    async def latest_by(self, author: str) -> Revision | None:
        return await self._one(_LATEST_BY, author)

    async def latest_of(self, document: dict[str, Any]) -> Revision | None:
        return await self._one(_LATEST_OF, json.dumps(document))

    async def revision(self, rev: int) -> Revision | None:
        return await self._one(_REVISION, rev)

    async def history(self, before: int, limit: int) -> Sequence[Revision]:
        with translated():
            rows = await self._database.pool.fetch(_HISTORY, before, limit)
        return [revision_of(row) for row in rows]

    async def add(
        self, document: dict[str, Any], author: str, comment: str
    ) -> Revision:
        with translated():
            row = await self._database.pool.fetchrow(
                _ADD, json.dumps(document), author, comment
            )
        if row is None:
            raise StoreUnavailable("nothing came back")
        return revision_of(row)

    async def settle(self, rev: int, status: Status, reason: str | None = None) -> None:
        with translated():
            await self._database.pool.execute(_SETTLE, rev, status.value, reason)

    async def _one(self, sql: str, *arguments: object) -> Revision | None:
        with translated():
            row = await self._database.pool.fetchrow(sql, *arguments)
        return None if row is None else revision_of(row)


async def _unlock(connection: asyncpg.pool.PoolConnectionProxy) -> None:
    # A connection that broke has let go of it already.
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        await connection.execute("SELECT pg_advisory_unlock($1)", _CHANGE_LOCK)


def revision_of(row: asyncpg.Record) -> Revision:
    return Revision(
        rev=row["rev"],
        document=json.loads(row["document"]),
        author=row["author"],
        comment=row["comment"],
        created_at=row["created_at"],
        status=Status(row["status"]),
        reason=row["reason"],
    )
