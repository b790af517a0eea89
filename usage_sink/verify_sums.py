"""Are the kept sums those of the rows? A part of `verify`."""

from collections.abc import Set as AbstractSet
from datetime import date

import asyncpg

from runtime.contracts import TABLE_USAGE_LOGS
from usage_sink import rollups, tiers
from usage_sink.days import outside
from usage_sink.findings import Report
from usage_sink.tiers import Period


class SumChecks:
    """Reads through `connection`, in its snapshot; what is bad goes to `report`."""

    def __init__(self, connection: asyncpg.Connection, report: Report) -> None:
        self._connection = connection
        self._report = report

    async def hours_and_minutes(self, partitions: AbstractSet[date]) -> None:
        """Of each day with rows; `partitions`: days that have one of their own."""
        for day in await self._days(partitions):
            self._report.days += 1
            for table in rollups.ROLLUPS:
                wrong = await self._connection.fetchval(rollups.differences(table, day))
                problem = f"{table.name} differs from the rows of {day}"
                self._note(problem, wrong, day, day)

    async def periods(self) -> None:
        """Sums of days and months that are not stale are those of hours and days."""
        for row in await self._connection.fetch(tiers.SUMMED):
            period, start = Period(row["period"]), row["start"]
            quarters = tiers.QUARTERS if row["has_quarters"] else ()
            for sums in (*tiers.SUMS[period], *quarters):
                wrong = await self._connection.fetchval(
                    sums.differences, start, *period.bounds(start)
                )
                self._note(
                    f"{sums.table} differs from finer sums for the {period} of {start}",
                    wrong,
                    start,
                    tiers.last_day(period, start),
                )

    def _note(self, problem: str, places: int, first: date, last: date) -> None:
        if places:
            self._report.find(
                "rollups",
                f"{problem} in {places} places: "
                f"`hubgate usage rebuild --from {first} --to {last}`",
            )

    async def _days(self, partitions: AbstractSet[date]) -> list[date]:
        found = await self._connection.fetch(
            "SELECT DISTINCT (created_at AT TIME ZONE 'UTC')::date AS day"
            f" FROM {TABLE_USAGE_LOGS} WHERE {outside('created_at', partitions)}"
        )
        return sorted({*partitions, *(row["day"] for row in found)})
