"""Are rows and corrections what was sealed, and does each seal follow the last?

A part of `verify`.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import date
from typing import Final

import asyncpg

from runtime.contracts import (
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_ARCHIVES,
    TABLE_USAGE_LOGS,
    TABLE_USAGE_SEALS,
    USAGE_DAY_IS_AWAY,
)
from usage_sink.days import outside, within
from usage_sink.findings import MOST_FINDINGS, Report
from usage_sink.heads import Head
from usage_sink.seals import (
    BEFORE_SEALS,
    Batch,
    SealKind,
    first_head,
    head_after,
    rows_digest,
)

_PREFETCH: Final = 2000


class SealChecks:
    """Reads through `connection`, in its snapshot; what is bad goes to `report`."""

    def __init__(self, connection: asyncpg.Connection, report: Report) -> None:
        self._connection = connection
        self._report = report

    async def chains(self, outside: Sequence[Head]) -> None:
        """Each seal follows the one before, and `outside` heads are there."""
        expected = {(one.chain, one.seal): one.head for one in outside}
        seals = self._connection.cursor(
            f"SELECT * FROM {TABLE_USAGE_SEALS} ORDER BY chain, seal",
            prefetch=_PREFETCH,
        )
        chain, name, previous = None, "", b""
        async for row in seals:
            if row["chain"] != chain:
                chain = row["chain"]
                name = self._report.names.get(row["chain"], "")
                previous = first_head(name)
            self._report.seals += 1
            batch = _batch(row)
            if row["previous"] != previous:
                self._report.find(
                    "chain", "does not follow the one before", chain, batch.seal
                )
            elif row["head"] != head_after(previous, batch):
                self._report.find("chain", "has been changed", chain, batch.seal)
            previous = row["head"]
            known = expected.pop((name, batch.seal), previous)
            if known != previous:
                self._report.find(
                    "chain", "is not the one noted outside", chain, batch.seal
                )
        for gone, seal in expected:
            self._report.find(
                "chain", "was noted outside and is gone: an older copy?", gone, seal
            )

    async def rows(self, days: AbstractSet[date]) -> None:
        """Of each of `days`, those with a partition, and of all others."""
        sealed, before = f"chain <> {BEFORE_SEALS}", f"chain = {BEFORE_SEALS}"
        for day in sorted(days):
            await self._compare_rows(
                f"{within('created_at', day)} AND {sealed}",
                f"day = '{day}' AND {sealed}",
            )
        await self._compare_rows(
            f"{outside('created_at', days)} AND {sealed}",
            f"{_seals_outside(days)} AND {sealed}",
        )
        await self._compare_rows(before, before)

    async def _compare_rows(self, where: str, seals: str) -> None:
        self._report.rows += await self._compare(
            "rows", TABLE_USAGE_LOGS, where, SealKind.USAGE, seals
        )

    async def adjustments(self) -> None:
        self._report.adjustments = await self._compare(
            "adjustments", TABLE_USAGE_ADJUSTMENTS, "true", SealKind.ADJUSTMENT, "true"
        )

    async def _compare(
        self, check: str, table: str, where: str, kind: SealKind, seals: str
    ) -> int:
        """Compare rows with seals; returns how many rows there are."""
        found = await self._connection.fetch(
            f"""
WITH held AS MATERIALIZED (
    SELECT chain, seal, count(*) AS rows, {rows_digest(kind)} AS digest
    FROM {table} WHERE {where} GROUP BY chain, seal
), sealed AS (
    SELECT chain, seal, rows, digest FROM {TABLE_USAGE_SEALS}
    WHERE kind = '{kind.value}' AND {seals}
)
SELECT chain, seal, held.rows AS held, sealed.rows AS sealed, total.rows AS total
FROM (SELECT coalesce(sum(rows), 0) AS rows FROM held) AS total
LEFT JOIN (held FULL JOIN sealed USING (chain, seal))
    ON held.rows IS DISTINCT FROM sealed.rows
    OR held.digest IS DISTINCT FROM sealed.digest
ORDER BY chain, seal LIMIT {MOST_FINDINGS}
"""
        )
        for row in found:
            if row["seal"] is not None:
                problem = _difference(row["held"], row["sealed"])
                self._report.find(check, problem, row["chain"], row["seal"])
        return int(found[0]["total"])


def _seals_outside(days: AbstractSet[date]) -> str:
    """Which seals' rows must be there, of none of `days`, as an SQL condition."""
    own = ", ".join(f"'{one}'::date" for one in days)
    return (
        f"NOT (day = ANY (ARRAY[{own}]::date[])) AND NOT EXISTS ("
        f"SELECT FROM {TABLE_USAGE_ARCHIVES} a "
        f"WHERE a.day = {TABLE_USAGE_SEALS}.day AND {USAGE_DAY_IS_AWAY})"
    )


def _difference(held: int | None, sealed: int | None) -> str:
    if sealed is None:
        return f"is named by {held} rows that it does not cover"
    if held is None:
        return f"has lost all of its {sealed} rows"
    if held != sealed:
        return f"had {sealed} rows and has {held}"
    return f"has rows that were changed, among {sealed}"


def _batch(row: asyncpg.Record) -> Batch:
    return Batch(
        seal=row["seal"],
        kind=SealKind(row["kind"]),
        day=row["day"],
        rows=row["rows"],
        digest=row["digest"],
        sealed_at=row["sealed_at"],
    )
