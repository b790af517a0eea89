"""Sums of the ledger in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from typing import Final

import asyncpg

from control.completeness import Watermark
from control.database import Database
from control.store_postgres import WATERMARKS
from control.usage_plan import Span, Tiers, days_touched, plan
from control.usage_totals import Cell, Cells, Found, RowsArchived
from control.usage_totals_sql import query
from runtime.contracts import (
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_ARCHIVES,
    TABLE_USAGE_CHAINS,
    TABLE_USAGE_SEALS,
    TABLE_USAGE_TIERS,
    USAGE_DAY_IS_AWAY,
)

_TIERS: Final = f"""
SELECT period, start, is_stale, version, has_quarters FROM {TABLE_USAGE_TIERS}
WHERE start >= $1 AND start <= $2 ORDER BY period, start
"""  # noqa: S608 - a name of ours, as below
#: Every change of rows, of corrections and of sums changes one of these.
_STATE: Final = f"""
SELECT concat_ws(' ',
    (SELECT string_agg(concat(chain, ':', (SELECT max(seal) FROM {TABLE_USAGE_SEALS} s
        WHERE s.chain = c.chain)), ',' ORDER BY chain) FROM {TABLE_USAGE_CHAINS} c),
    (SELECT concat(count(*), ':', sum(version), ':', count(*) FILTER (WHERE is_stale))
        FROM {TABLE_USAGE_TIERS}))
"""  # noqa: S608
_ARCHIVED: Final = f"""
SELECT min(day) FROM {TABLE_USAGE_ARCHIVES}
WHERE day = ANY ($1::date[]) AND {USAGE_DAY_IS_AWAY}
"""  # noqa: S608
_TAKEN_AWAY: Final = f"""
SELECT coalesce(-sum(least({{column}}, 0)), 0)::bigint FROM {TABLE_USAGE_ADJUSTMENTS}
WHERE usage_created_at >= $1 AND usage_created_at < $2
"""  # noqa: S608
#: Sums over many users: compiling such a query costs more than it saves. A plan for any
#: span would look at every day's rows.
_SETTINGS: Final = (
    "SET LOCAL jit = off; SET LOCAL work_mem = '64MB'; "
    "SET LOCAL plan_cache_mode = force_custom_plan"
)
#: What is summed is in thousands of pages: read in their order, and ahead, they come
#: several times as fast as in that of an index. From the first sums on: what is asked
#: before them (the last of something) is answered by an index alone.
_BY_PAGE: Final = "SET LOCAL enable_indexscan = off"


class PostgresTotals:
    """The tables that usage_sink keeps."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator["LedgerSnapshot"]:
        async with (
            self._database.reading() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute(_SETTINGS)
            yield LedgerSnapshot(connection, self._database)


class LedgerSnapshot:
    """What `connection` sees in its transaction."""

    def __init__(
        self, connection: asyncpg.pool.PoolConnectionProxy, database: Database
    ) -> None:
        self.connection = connection
        self._database = database
        self._known = dict[tuple[date, date], list[asyncpg.Record]]()
        #: One question at a time.
        self._free = asyncio.Lock()
        self._is_by_page = False

    @asynccontextmanager
    async def beside(self) -> AsyncIterator["LedgerSnapshot"]:
        async with self._database.reading_more() as connection:
            if connection is None:
                yield self
                return
            async with self._free:
                name = await self.connection.fetchval("SELECT pg_export_snapshot()")
            async with connection.transaction(
                isolation="repeatable_read", readonly=True
            ):
                await connection.execute(
                    f"SET TRANSACTION SNAPSHOT '{name}'; {_SETTINGS}"
                )
                yield LedgerSnapshot(connection, self._database)

    async def watermarks(self) -> Sequence[Watermark]:
        return [Watermark(**row) for row in await self.connection.fetch(WATERMARKS)]

    async def state(self, start: datetime, end: datetime) -> str:
        days = days_touched(start, end)
        found = await self._tiers(start, end)
        versions = {
            row["start"]: row["version"]
            for row in found
            if row["period"] == "day" and not row["is_stale"]
        }
        if all(day in versions for day in days):
            # Whoever changes a day that is summed says so in the same transaction.
            return " ".join(str(versions[day]) for day in days)
        return str(await self.connection.fetchval(_STATE))

    async def taken_away(self, start: datetime, end: datetime, order: str) -> int:
        column = next((one for one in ("tokens", "credits") if one == order), None)
        if column is None:
            return 0
        query_ = _TAKEN_AWAY.format(column=column)
        return int(await self.connection.fetchval(query_, start, end))

    async def cells(self, cells: Cells) -> Found:
        async with self._free:
            parts = plan(cells, _current(await self._tiers(cells.start, cells.end)))
            await self._need(parts.all_rows())
            text, arguments = query(cells, parts)
            if not self._is_by_page:
                await self.connection.execute(_BY_PAGE)
                self._is_by_page = True
            rows = await self.connection.fetch(text, *arguments)
        width, first = len(cells.dimensions), len(cells.dimensions) + 1
        end = first + len(cells.measures)
        found = [
            Cell(row[:width], row[width] - 1, row[first:end])
            for row in map(tuple, rows)
        ]
        if rows and cells.limit is not None:
            return Found(found, rows[0]["groups"])
        return Found(found, len(found))

    async def _tiers(self, start: datetime, end: datetime) -> list[asyncpg.Record]:
        key = start.date().replace(day=1), end.date()
        if key not in self._known:  # of one moment, as all that is read here
            self._known[key] = await self.connection.fetch(_TIERS, *key)
        return self._known[key]

    async def _need(self, spans: Sequence[Span]) -> None:
        """That the rows of `spans` are in the ledger."""
        days = sorted({day for span in spans for day in days_touched(*span)})
        gone = await self.connection.fetchval(_ARCHIVED, days) if days else None
        if gone is not None:
            raise RowsArchived(gone)


def _current(rows: Sequence[asyncpg.Record]) -> Tiers:
    fresh = [row for row in rows if not row["is_stale"]]
    days = [row for row in fresh if row["period"] == "day"]
    versions = {row["start"]: row["version"] for row in days}
    return Tiers(
        days=frozenset(versions),
        weeks=frozenset(
            row["start"]
            for row in fresh
            if row["period"] == "week"
            and row["version"] == _version_of_week(row["start"], versions)
        ),
        months=frozenset(row["start"] for row in fresh if row["period"] == "month"),
        quarters=frozenset(row["start"] for row in days if row["has_quarters"]),
    )


def _version_of_week(week: date, versions: Mapping[date, int]) -> int | None:
    """As `usage_sink/tiers.py` has it; None: not all of its days are current."""
    days = [week + timedelta(days=at) for at in range(7)]
    if not all(day in versions for day in days):
        return None
    return sum(versions[day] for day in days)
