"""Sums over a window, from the tables of sums and the rows at its edges."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

import asyncpg

from control.database import Database
from control.window_sums import Filter, Sums, Window
from runtime.contracts import (
    LATENCY_BUCKETS,
    LATENCY_RANGES_MS,
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_HOURLY,
    TABLE_USAGE_HOURLY_TOTALS,
    TABLE_USAGE_LOGS,
)

_FIGURES: Final = ("requests", "errors", "tokens", "credits", *LATENCY_BUCKETS)
_ZEROS: Final = ", ".join("0::bigint" for _ in LATENCY_BUCKETS)
_SUMMED: Final = ", ".join(
    f"coalesce(sum({one}), 0)::bigint AS {one}" for one in _FIGURES
)
_FROM_HOURS: Final = ", ".join(
    (
        *("requests", "errors"),
        *("tokens + adjusted_tokens", "credits + adjusted_credits"),
        *(f"{one}::bigint" for one in LATENCY_BUCKETS),
    )
)
_FROM_ROWS: Final = ", ".join(
    (
        *("1::bigint AS requests", "(status >= 400)::int::bigint AS errors"),
        *("tokens::bigint", "credits::bigint"),
        *(
            f"(duration_ms > {low} AND duration_ms <= {high})::int::bigint AS {name}"
            for name, (low, high) in LATENCY_RANGES_MS.items()
        ),
    )
)


class PostgresWindowSums:
    """Reads what usage_sink keeps."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sums(self, window: Window, wanted: Filter) -> Sums:
        if window.is_empty:
            return Sums()
        arguments: list[object] = list(wanted.given().values())
        parts = list(_parts(window, wanted, arguments))
        sql = f"SELECT {_SUMMED} FROM ({' UNION ALL '.join(parts)}) AS parts"  # noqa: S608 - names of ours
        async with self._database.reading() as connection:
            row = await connection.fetchrow(sql, *arguments)
        return Sums() if row is None else _sums(row)

    async def same_hours(
        self, hours: Sequence[datetime], wanted: Filter
    ) -> Sequence[Sums]:
        arguments = [*wanted.given().values(), list(hours)]
        sql = (
            f"SELECT hour, {_SUMMED} FROM "  # noqa: S608 - names of ours
            f"(SELECT hour, {_named(_FROM_HOURS)} FROM {_table(wanted)} "
            f"WHERE {_conditions(wanted)} AND hour = ANY(${len(arguments)})) AS parts "
            "GROUP BY hour"
        )
        async with self._database.reading() as connection:
            rows = await connection.fetch(sql, *arguments)
        found = {row["hour"]: _sums(row) for row in rows}
        return [found.get(one, Sums()) for one in hours]


def _parts(window: Window, wanted: Filter, arguments: list[object]) -> Iterator[str]:
    """One SELECT for the whole hours, and for each edge one of rows and adjustments."""

    def between(column: str, part: Window) -> str:
        first = len(arguments) + 1
        arguments.extend((part.start, part.end))
        return f"{column} >= ${first} AND {column} < ${first + 1}"

    hours, chosen = window.hours(), _conditions(wanted)
    edges = [window]
    if not hours.is_empty:
        edges = [Window(window.start, hours.start), Window(hours.end, window.end)]
        yield (
            f"SELECT {_named(_FROM_HOURS)} FROM {_table(wanted)} "  # noqa: S608 - names of ours
            f"WHERE {chosen} AND {between('hour', hours)}"
        )
    for edge in edges:
        if edge.is_empty:
            continue
        yield (
            f"SELECT {_FROM_ROWS} FROM {TABLE_USAGE_LOGS} "  # noqa: S608 - names of ours
            f"WHERE {chosen} AND {between('created_at', edge)}"
        )
        yield (
            "SELECT 0::bigint, 0::bigint, a.tokens::bigint, a.credits::bigint, "  # noqa: S608 - names of ours
            f"{_ZEROS} FROM {TABLE_USAGE_ADJUSTMENTS} a JOIN {TABLE_USAGE_LOGS} l "
            "ON l.id = a.usage_id AND l.created_at = a.usage_created_at "
            f"WHERE {_conditions(wanted, 'l.')} "
            f"AND {between('a.usage_created_at', edge)}"
        )


def _named(figures: str) -> str:
    """The figures of the first SELECT of a union, under their names."""
    parts = zip(figures.split(", "), _FIGURES, strict=True)
    return ", ".join(f"{one} AS {name}" for one, name in parts)


def _table(wanted: Filter) -> str:
    return TABLE_USAGE_HOURLY_TOTALS if wanted.user_id is None else TABLE_USAGE_HOURLY


def _conditions(wanted: Filter, prefix: str = "") -> str:
    """Of the filter; its values are the first arguments."""
    found = (f"{prefix}{name} = ${n}" for n, name in enumerate(wanted.given(), start=1))
    return " AND ".join(("true", *found))


def _sums(row: asyncpg.Record) -> Sums:
    return Sums(
        requests=row["requests"],
        errors=row["errors"],
        tokens=row["tokens"],
        credits=row["credits"],
        latency=tuple(row[name] for name in LATENCY_BUCKETS),
    )
