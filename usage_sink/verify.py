"""Does the ledger still say what was written? Reads only; trusts nothing it reads.

In one snapshot of the database:

- `chain`: each seal follows the one before; each head that is known from outside the
  database is there, so a rewritten suffix and an older copy are found.
- `rows`: each seal's rows are there, are what they were, and no row is without seal.
- `adjustments`: the same for corrections.
- `rollups`: the sums by hour and minute are the sums of the rows, and those of days
  and months, where they are current, are the sums of the hours.
- `guards`: the triggers that refuse changes are there and in force.

Days that were archived and dropped are checked against their files by `archive`.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import asyncpg

from runtime.contracts import TABLE_USAGE_ADJUSTMENTS, TABLE_USAGE_LOGS
from runtime.postgres import wrap_errors
from usage_sink import heads as heads_file
from usage_sink import rollups, tiers
from usage_sink.seals import (
    BEFORE_SEALS,
    Batch,
    SealKind,
    first_head,
    head_after,
    rows_digest,
)
from usage_sink.tables import TABLE_ARCHIVES, TABLE_CHAINS, TABLE_SEALS
from usage_sink.tiers import Period

_CONNECT_TIMEOUT_S: Final = 10.0
_PREFETCH: Final = 2000
#: A finding for each of a million rows would help nobody.
MOST_FINDINGS: Final = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was written; `seal` names the batch."""

    check: str
    problem: str
    chain: str | None = None
    seal: int | None = None

    def __str__(self) -> str:
        where = f"chain {self.chain} " if self.chain is not None else ""
        batch = f"batch {self.seal} " if self.seal is not None else ""
        return f"{self.check}: {where}{batch}{self.problem}"


@dataclass(slots=True)
class Report:
    """What was looked at and what was found; the first bad batch comes first."""

    rows: int = 0
    adjustments: int = 0
    seals: int = 0
    chains: int = 0
    heads: int = 0
    days: int = 0
    archived_days: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.findings


async def verify(dsn: str, heads: Path | None) -> Report:
    """Check the whole ledger; `heads` is the file beside the spool.

    Raises:
        DatabaseUnavailable: no answer.
        OSError: `heads` can't be read.
    """
    # Before the snapshot: a head is written after its commit.
    outside = [] if heads is None else heads_file.read(heads)
    async with _snapshot(dsn) as connection:
        return await _Verification(connection).run(outside)


@asynccontextmanager
async def _snapshot(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    with wrap_errors():
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_TIMEOUT_S)
        try:
            async with connection.transaction(
                isolation="repeatable_read", readonly=True
            ):
                yield connection
        finally:
            await connection.close()


class _Verification:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._report = Report()
        self._names: dict[int, str] = {}

    async def run(self, outside: Sequence[heads_file.Head]) -> Report:
        report = self._report
        found = await self._connection.fetch(f"SELECT chain, name FROM {TABLE_CHAINS}")
        self._names = {row["chain"]: row["name"] for row in found}
        report.chains = len(self._names)
        report.heads = len(outside)
        await self._chains(outside)
        tables = await self._partitions()
        for day, table in tables.items():
            await self._rows(table, _seals_of(day, tables))
        await self._rows_before_seals()
        await self._adjustments()
        for day in await self._days(tables):
            report.days += 1
            await self._sums(day)
        await self._tiers()
        await self._guards()
        report.archived_days = await self._connection.fetchval(
            f"SELECT count(*) FROM {TABLE_ARCHIVES} WHERE dropped_at IS NOT NULL"
        )
        report.findings.sort(key=_first_bad)
        return report

    def _find(
        self,
        check: str,
        problem: str,
        chain: int | str | None = None,
        seal: int | None = None,
    ) -> None:
        if len(self._report.findings) < MOST_FINDINGS:
            name = (
                self._names.get(chain, str(chain)) if isinstance(chain, int) else chain
            )
            self._report.findings.append(Finding(check, problem, name, seal))

    async def _chains(self, outside: Sequence[heads_file.Head]) -> None:
        expected = {(one.chain, one.seal): one.head for one in outside}
        seals = self._connection.cursor(
            f"SELECT * FROM {TABLE_SEALS} ORDER BY chain, seal",
            prefetch=_PREFETCH,
        )
        chain, name, previous = None, "", b""
        async for row in seals:
            if row["chain"] != chain:
                chain = row["chain"]
                name = self._names.get(row["chain"], "")
                previous = first_head(name)
            self._report.seals += 1
            batch = _batch(row)
            if row["previous"] != previous:
                self._find("chain", "does not follow the one before", chain, batch.seal)
            elif row["head"] != head_after(previous, batch):
                self._find("chain", "has been changed", chain, batch.seal)
            previous = row["head"]
            known = expected.pop((name, batch.seal), previous)
            if known != previous:
                self._find("chain", "is not the one noted outside", chain, batch.seal)
        for gone, seal in expected:
            self._find(
                "chain", "was noted outside and is gone: an older copy?", gone, seal
            )

    async def _partitions(self) -> dict[date | None, str]:
        """Tables with the day they hold; None for the default one."""
        found = await self._connection.fetch(
            "SELECT c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bound "
            "FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            f"WHERE i.inhparent = '{TABLE_USAGE_LOGS}'::regclass ORDER BY 1"
        )
        tables: dict[date | None, str] = {}
        for row in found:
            if row["bound"] == "DEFAULT":
                tables[None] = row["name"]
            else:
                text = row["name"].removeprefix(f"{TABLE_USAGE_LOGS}_")
                tables[date(int(text[:4]), int(text[4:6]), int(text[6:8]))] = row[
                    "name"
                ]
        return tables

    async def _rows(self, table: str, seals: str) -> None:
        where = f"chain <> {BEFORE_SEALS}"
        self._report.rows += await self._compare(
            "rows", f'"{table}"', where, SealKind.USAGE, f"{where} AND {seals}"
        )

    async def _rows_before_seals(self) -> None:
        where = f"chain = {BEFORE_SEALS}"
        self._report.rows += await self._compare(
            "rows", TABLE_USAGE_LOGS, where, SealKind.USAGE, where
        )

    async def _adjustments(self) -> None:
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
    SELECT chain, seal, rows, digest FROM {TABLE_SEALS}
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
                self._find(check, problem, row["chain"], row["seal"])
        return int(found[0]["total"])

    async def _days(self, tables: dict[date | None, str]) -> list[date]:
        days = {day for day in tables if day is not None}
        if None in tables:
            found = await self._connection.fetch(
                "SELECT DISTINCT (created_at AT TIME ZONE 'UTC')::date AS day "
                f'FROM "{tables[None]}"'
            )
            days |= {row["day"] for row in found}
        return sorted(days)

    async def _sums(self, day: date) -> None:
        start, end = f"'{day}T00:00Z'", f"'{day + timedelta(days=1)}T00:00Z'"
        rows = (
            f"(SELECT * FROM {TABLE_USAGE_LOGS} WHERE created_at >= {start} "
            f"AND created_at < {end})"
        )
        for table in rollups.ROLLUPS:
            wrong = await self._connection.fetchval(
                f"""
WITH calculated AS MATERIALIZED ({rollups.calculated(table, rows)}),
    kept AS (SELECT {", ".join(table.columns)} FROM {table.name}
        WHERE {table.time} >= {start} AND {table.time} < {end}
            AND {table.is_filled})
SELECT count(*) FROM (
    (TABLE calculated EXCEPT TABLE kept) UNION ALL (TABLE kept EXCEPT TABLE calculated)
) AS difference
"""
            )
            if wrong:
                self._find(
                    "rollups",
                    f"{table.name} differs from the rows of {day} in {wrong} places: "
                    f"`hubgate usage rebuild --from {day} --to {day}`",
                )

    async def _tiers(self) -> None:
        """Sums of days and months that are not stale are those of hours and days."""
        for row in await self._connection.fetch(tiers.SUMMED):
            period, start = Period(row["period"]), row["start"]
            quarters = tiers.QUARTERS if row["has_quarters"] else ()
            for sums in (*tiers.SUMS[period], *quarters):
                wrong = await self._connection.fetchval(
                    sums.differences, start, *period.bounds(start)
                )
                if wrong:
                    last = tiers.last_day(period, start)
                    self._find(
                        "rollups",
                        f"{sums.table} differs from finer sums for the {period} of "
                        f"{start} in {wrong} places: "
                        f"`hubgate usage rebuild --from {start} --to {last}`",
                    )

    async def _guards(self) -> None:
        for table, missing in await self._connection.fetch(_UNGUARDED):
            self._find("guards", f"{table} can be changed: {missing} is not in force")


_UNGUARDED: Final = f"""
SELECT wanted.relation::text, wanted.trigger FROM (
    SELECT inhrelid::regclass AS relation, unnest(
        ARRAY['refuse_change_of_a_row', 'refuse_truncate']) AS trigger
    FROM pg_inherits WHERE inhparent = '{TABLE_USAGE_LOGS}'::regclass
    UNION ALL
    SELECT '{TABLE_USAGE_LOGS}'::regclass, unnest(
        ARRAY['refuse_change_of_a_row', 'refuse_change'])
    UNION ALL
    SELECT unnest(ARRAY['{TABLE_SEALS}', '{TABLE_CHAINS}', 'usage_report_ids',
        '{TABLE_USAGE_ADJUSTMENTS}'])::regclass, 'refuse_change'
) AS wanted
LEFT JOIN pg_trigger t
    ON t.tgrelid = wanted.relation AND t.tgname = wanted.trigger
    AND t.tgenabled IN ('O', 'A')
WHERE t.oid IS NULL
"""


def _seals_of(day: date | None, tables: dict[date | None, str]) -> str:
    """Which seals' rows a partition must hold, as an SQL condition."""
    if day is not None:
        return f"day = '{day}'"
    own = ", ".join(f"'{one}'::date" for one in tables if one is not None)
    return (
        f"NOT (day = ANY (ARRAY[{own}]::date[])) AND NOT EXISTS ("
        f"SELECT FROM {TABLE_ARCHIVES} a "
        "WHERE a.day = usage_seals.day AND a.dropped_at IS NOT NULL "
        "AND a.restored_at IS NULL)"
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


def _first_bad(finding: Finding) -> tuple[bool, str, int]:
    return finding.seal is None, finding.chain or "", finding.seal or 0
