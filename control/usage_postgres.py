"""The ledger's rows in PostgreSQL, for whoever asks for them page by page."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Final

import asyncpg

from control.completeness import Minute, Range, Watermark
from control.database import Database
from control.store_postgres import WATERMARKS
from control.usage import Sort, Totals, UsageFilter, UsageQuery, UsageRow
from control.usage_days import is_long, narrowed, places, steps
from control.usage_plan import Span, instant
from control.usage_sql import ANY_WAY, BY_INDEX, Where, days_with, hours_with, sums
from control.usage_totals import USER, Cells, Value, added
from control.usage_totals import Where as Filter
from control.usage_totals_postgres import LedgerSnapshot, PostgresTotals
from runtime.contracts import (
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_ARCHIVES,
    TABLE_USAGE_HOURLY_TOTALS,
    TABLE_USAGE_LOGS,
    TABLE_USAGE_MINUTES,
    USAGE_DAY_IS_AWAY,
    USAGE_SUMS,
)

#: Between archived days; with more, it is quicker to sum the rows.
_MOST_SPANS: Final = 8

# S608: only names of ours are put into these texts, values are parameters.
_FIND: Final = """
SELECT {columns} FROM {source}
ORDER BY created_at {order}, id {order} LIMIT {limit} OFFSET {offset}
"""
_ROWS: Final = f"{TABLE_USAGE_LOGS} WHERE {{conditions}}"
#: OFFSET: a subquery of its own, so that no plan reads all to join it.
_ROWS_OF_SPANS: Final = f"""
{{spans}} CROSS JOIN LATERAL (
    SELECT {{columns}} FROM {TABLE_USAGE_LOGS} WHERE {{conditions}} OFFSET 0) AS rows
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
SELECT day FROM {TABLE_USAGE_ARCHIVES}
WHERE {USAGE_DAY_IS_AWAY}
    AND ($1::timestamptz IS NULL OR day >= ($1 AT TIME ZONE 'UTC')::date)
    AND ($2::timestamptz IS NULL OR day::timestamp AT TIME ZONE 'UTC' < $2)
ORDER BY day
"""  # noqa: S608
#: All rows are within.
_BOUNDS: Final = f"""
SELECT min(hour), max(hour) + interval '1 hour' FROM {TABLE_USAGE_HOURLY_TOTALS}
"""  # noqa: S608
#: The row decides whether its correction is among them.
_CORRECTIONS: Final = f"""
SELECT {sums("a.", _OWN_SUMS)} FROM {TABLE_USAGE_ADJUSTMENTS} a
WHERE ($1::timestamptz IS NULL OR a.usage_created_at >= $1)
    AND ($2::timestamptz IS NULL OR a.usage_created_at < $2)
    AND EXISTS (SELECT FROM {TABLE_USAGE_LOGS}
        WHERE id = a.usage_id AND created_at = a.usage_created_at AND {{conditions}})
"""  # noqa: S608
_MINUTES: Final = f"""
SELECT node, minute, admitted, recorded, unsettled, quarantined
FROM {TABLE_USAGE_MINUTES} WHERE minute >= $1 AND minute < $2 ORDER BY minute, node
"""  # noqa: S608


class PostgresUsageQueries:
    """The table `usage_logs`, which usage_sink owns and control reads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._totals = PostgresTotals(database)

    async def find(self, query: UsageQuery) -> Sequence[UsageRow]:
        days = days_with(query.chosen) if query.offset == 0 else None
        async with (
            self._database.reading() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            if days is not None:
                rows = await _of_days(connection, query, *days)
            else:
                # Of a few users all rows may be fewer than an index would go through.
                if query.chosen.user_ids is None:
                    await connection.execute(BY_INDEX)
                rows = await _page(connection, query, query.limit + 1)
        return [_usage_row(row) for row in rows]

    async def totals(self, chosen: UsageFilter) -> Totals:
        corrected = Where(chosen, chosen.start, chosen.end)
        async with self._totals.snapshot() as snapshot:
            connection = snapshot.connection
            found = await connection.fetch(_ARCHIVED, chosen.start, chosen.end)
            archived = [row["day"] for row in found]
            rows = await self._summed(snapshot, chosen, archived)
            corrections = await connection.fetchrow(
                _CORRECTIONS.format(conditions=corrected), *corrected.arguments
            )
        totals = _totals(rows, dict(corrections or {}))
        return replace(totals, archived_days=len(archived))

    async def _summed(
        self, snapshot: LedgerSnapshot, chosen: UsageFilter, archived: Sequence[date]
    ) -> dict[str, int]:
        """Of the rows that are there, without corrections."""
        where = _of_sums(chosen)
        bounds = await snapshot.connection.fetchrow(_BOUNDS)
        if where is not None and bounds is not None and bounds[0] is not None:
            first = max(chosen.start or bounds[0], bounds[0])
            end = min(chosen.end or bounds[1], bounds[1])
            spans = _spans(first, end, archived)
            if len(spans) <= _MOST_SPANS:
                cells = [
                    cell
                    for start, last in spans
                    for cell in (
                        await snapshot.cells(Cells(start=start, end=last, where=where))
                    ).cells
                ]
                return dict(zip(USAGE_SUMS, added(cells), strict=False))
        conditions = Where(chosen)
        sums_ = await snapshot.connection.fetchrow(
            _ROW_TOTALS.format(conditions=conditions), *conditions.arguments
        )
        return dict(sums_ or {})

    async def watermarks(self) -> Sequence[Watermark]:
        async with self._database.reading() as connection:
            rows = await connection.fetch(WATERMARKS)
        return [Watermark(**row) for row in rows]

    async def minutes(self, range_: Range) -> Sequence[Minute]:
        async with self._database.reading() as connection:
            rows = await connection.fetch(_MINUTES, range_.start, range_.end)
        return [Minute(**row) for row in rows]


async def _of_days(
    connection: asyncpg.pool.PoolConnectionProxy,
    query: UsageQuery,
    days: str,
    arguments: Sequence[object],
) -> list[asyncpg.Record]:
    """The page from those days only that have rows of it."""
    await connection.execute(ANY_WAY)
    known = await connection.fetch(days, *arguments)
    found, wanted = list[asyncpg.Record](), query.limit + 1
    of_days = places(query.chosen, query.cursor, query.sort, dict(map(tuple, known)))
    for step in steps(of_days, wanted):
        spans, hours = step, None
        if is_long(step):
            hours = hours_with(query.chosen, step)
        if hours is not None:
            text, values = hours
            rows = await connection.fetch(text, *values)
            spans = narrowed(step, [row["hour"] for row in rows])
        if spans:
            found += await _page(connection, query, wanted - len(found), spans)
        if len(found) == wanted:
            break
    return found


async def _page(
    connection: asyncpg.pool.PoolConnectionProxy,
    query: UsageQuery,
    limit: int,
    spans: Sequence[Span] = (),
) -> list[asyncpg.Record]:
    where = Where(query.chosen)
    if query.cursor is not None:
        where.add_cursor(query.cursor, query.sort)
    apart = where.add_spans(spans) if spans else ""
    columns = ", ".join(dict.fromkeys((*query.columns, "created_at", "id")))
    source = (_ROWS_OF_SPANS if apart else _ROWS).format(
        spans=apart, columns=columns, conditions=where
    )
    sql = _FIND.format(
        columns=columns,
        source=source,
        order="DESC" if query.sort is Sort.NEWEST else "ASC",
        limit=where.place(limit),
        offset=where.place(query.offset),
    )
    return await connection.fetch(sql, *where.arguments)


def _of_sums(chosen: UsageFilter) -> Filter | None:
    """The filter in the terms of the sums; None: they don't know enough."""
    if chosen.outcome is not None:
        return None
    equal = {**chosen.equalities(), "outcome": None}
    where: list[tuple[str, tuple[Value, ...]]] = [
        (column, (wanted,)) for column, wanted in equal.items() if wanted is not None
    ]
    if chosen.user_ids is not None:
        where.append((USER, tuple(sorted(chosen.user_ids))))
    if chosen.statuses is not None:
        if not chosen.statuses.is_class:
            return None
        where.append(("status_class", (chosen.statuses.least // 100,)))
    return tuple(where)


def _spans(first: datetime, end: datetime, without: Sequence[date]) -> list[Span]:
    """From `first` until `end`, but for these days, which are in order."""
    found, at = list[Span](), first
    for day in without:
        if at < instant(day):
            found.append((at, min(instant(day), end)))
        at = max(at, instant(day + timedelta(days=1)))
    if at < end:
        found.append((at, end))
    return [one for one in found if one[0] < one[1]]


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
