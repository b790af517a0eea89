"""Revisions and the ledger in PostgreSQL."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

import asyncpg

from control.completeness import Minute, Range, Watermark
from control.database import Database
from control.store import Revision, Status, StoreUnavailable
from control.usage import Sort, Totals, UsageFilter, UsageQuery, UsageRow
from control.usage_sql import BY_INDEX, Where, sums
from runtime.contracts import (
    TABLE_CONFIG_REVISIONS,
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_ARCHIVES,
    TABLE_USAGE_LOGS,
    TABLE_USAGE_MINUTES,
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
_ADD: Final = f"""
INSERT INTO {TABLE_CONFIG_REVISIONS} (document, author, comment, status)
VALUES ($1, $2, $3, 'pending') RETURNING *
"""  # noqa: S608
_SETTLE: Final = f"""
UPDATE {TABLE_CONFIG_REVISIONS} SET status = $2, reason = $3
WHERE rev = $1 AND status = 'pending'
"""  # noqa: S608
_FIND: Final = f"""
SELECT {{columns}} FROM {TABLE_USAGE_LOGS} WHERE {{conditions}}
ORDER BY created_at {{order}}, id {{order}} LIMIT {{limit}} OFFSET {{offset}}
"""  # noqa: S608
_OWN_SUMS: Final = (
    *("tokens", "input_tokens", "output_tokens", "cached_tokens"),
    *("reasoning_tokens", "credits"),
)
_ROW_TOTALS: Final = f"""
SELECT count(*) AS requests, count(*) FILTER (WHERE status >= 400) AS errors,
    {sums("", (*_OWN_SUMS, "duration_ms"))}
FROM {TABLE_USAGE_LOGS} WHERE {{conditions}}
"""  # noqa: S608
_ARCHIVED: Final = f"""
SELECT count(*) FROM {TABLE_USAGE_ARCHIVES}
WHERE dropped_at IS NOT NULL AND restored_at IS NULL
    AND ($1::timestamptz IS NULL OR day >= ($1 AT TIME ZONE 'UTC')::date)
    AND ($2::timestamptz IS NULL OR day::timestamp AT TIME ZONE 'UTC' < $2)
"""  # noqa: S608
#: The row decides whether its correction is among them.
_CORRECTIONS: Final = f"""
SELECT {sums("a.", _OWN_SUMS)} FROM {TABLE_USAGE_ADJUSTMENTS} a
WHERE ($1::timestamptz IS NULL OR a.usage_created_at >= $1)
    AND ($2::timestamptz IS NULL OR a.usage_created_at < $2)
    AND EXISTS (SELECT FROM {TABLE_USAGE_LOGS}
        WHERE id = a.usage_id AND created_at = a.usage_created_at AND {{conditions}})
"""  # noqa: S608
WATERMARKS: Final = f"""
SELECT node, complete_through, basis, pending, is_closed, updated_at
FROM {TABLE_USAGE_WATERMARKS} ORDER BY node
"""  # noqa: S608
_MINUTES: Final = f"""
SELECT node, minute, admitted, recorded, unsettled, quarantined
FROM {TABLE_USAGE_MINUTES} WHERE minute >= $1 AND minute < $2 ORDER BY minute, node
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

    async def add(
        self, document: dict[str, Any], author: str, comment: str
    ) -> Revision:
        with translated():
            row = await self._database.pool.fetchrow(
                _ADD, json.dumps(document), author, comment
            )
        if row is None:
            raise StoreUnavailable("nothing came back")
        return _revision(row)

    async def settle(self, rev: int, status: Status, reason: str | None = None) -> None:
        with translated():
            await self._database.pool.execute(_SETTLE, rev, status.value, reason)

    async def _one(self, sql: str, *arguments: object) -> Revision | None:
        with translated():
            row = await self._database.pool.fetchrow(sql, *arguments)
        return None if row is None else _revision(row)


class PostgresUsageQueries:
    """The table `usage_logs`, which usage_sink owns and control reads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, query: UsageQuery) -> Sequence[UsageRow]:
        where = Where(query.chosen)
        if query.cursor is not None:
            where.add_cursor(query.cursor, query.sort)
        sql = _FIND.format(
            columns=", ".join(dict.fromkeys((*query.columns, "created_at", "id"))),
            order="DESC" if query.sort is Sort.NEWEST else "ASC",
            limit=where.place(query.limit + 1),
            offset=where.place(query.offset),
            conditions=where,
        )
        async with self._database.reading() as connection, connection.transaction():
            # Of a few users all rows may be fewer than an index would go through.
            if query.chosen.user_ids is None:
                await connection.execute(BY_INDEX)
            rows = await connection.fetch(sql, *where.arguments)
        return [_usage_row(row) for row in rows]

    async def totals(self, chosen: UsageFilter) -> Totals:
        rows, corrected = Where(chosen), Where(chosen, chosen.start, chosen.end)
        async with (
            self._database.reading() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            sums_ = await connection.fetchrow(
                _ROW_TOTALS.format(conditions=rows), *rows.arguments
            )
            corrections = await connection.fetchrow(
                _CORRECTIONS.format(conditions=corrected), *corrected.arguments
            )
            archived = await connection.fetchval(_ARCHIVED, chosen.start, chosen.end)
        totals = _totals(dict(sums_ or {}), dict(corrections or {}))
        return replace(totals, archived_days=archived)

    async def watermarks(self) -> Sequence[Watermark]:
        async with self._database.reading() as connection:
            rows = await connection.fetch(WATERMARKS)
        return [Watermark(**row) for row in rows]

    async def minutes(self, range_: Range) -> Sequence[Minute]:
        async with self._database.reading() as connection:
            rows = await connection.fetch(_MINUTES, range_.start, range_.end)
        return [Minute(**row) for row in rows]


async def _unlock(connection: asyncpg.pool.PoolConnectionProxy) -> None:
    # A connection that broke has let go of it already.
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        await connection.execute("SELECT pg_advisory_unlock($1)", _CHANGE_LOCK)


def _totals(rows: dict[str, int], corrections: dict[str, int]) -> Totals:
    for name, value in corrections.items():
        rows[name] += value
    return Totals(
        **rows,
        adjusted_tokens=corrections["tokens"],
        adjusted_credits=corrections["credits"],
    )


def _usage_row(row: asyncpg.Record) -> UsageRow:
    values = dict(row)
    if "metadata" in values:
        values["metadata"] = json.loads(values["metadata"])
    return values


def _revision(row: asyncpg.Record) -> Revision:
    return Revision(
        rev=row["rev"],
        document=json.loads(row["document"]),
        author=row["author"],
        comment=row["comment"],
        created_at=row["created_at"],
        status=Status(row["status"]),
        reason=row["reason"],
    )
