"""Makes the sums by hour and minute again from the rows, when they differ."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import asyncpg

from runtime.contracts import TABLE_USAGE_ARCHIVES, USAGE_DAY_IS_AWAY
from runtime.postgres import affected, connected
from usage_sink import rollups, tiers
from usage_sink.rollups import Rollup

_CONNECT_TIMEOUT_S: Final = 10.0
#: The sinks wait meanwhile and keep what comes in their spools; not for ever.
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '30s'"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Rows of sums that were made; days whose rows are only in an archive were left."""

    hours: int
    minutes: int
    left: tuple[date, ...]


async def rebuild(dsn: str, first: date, last: date) -> Rebuilt:
    """Make the sums of all UTC days from `first` to `last` again. The owner's task.

    Raises:
        DatabaseUnavailable: nothing was changed.
    """
    async with (
        connected(dsn, _CONNECT_TIMEOUT_S) as connection,
        connection.transaction(),
    ):
        return await _rebuild(connection, first, last)


async def _rebuild(connection: asyncpg.Connection, first: date, last: date) -> Rebuilt:
    await connection.execute(_LOCK_TIMEOUT)
    for table in rollups.ROLLUPS:
        await connection.execute(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE")
    found = await connection.fetch(
        f"SELECT day FROM {TABLE_USAGE_ARCHIVES} WHERE day BETWEEN $1 AND $2 "
        f"AND {USAGE_DAY_IS_AWAY} ORDER BY day",
        first,
        last,
    )
    left = tuple(row["day"] for row in found)
    days = [first + timedelta(days=at) for at in range((last - first).days + 1)]
    await connection.execute(tiers.make_stale(days))
    # Also of days without sums: who keeps answers sees by it that others are right now.
    await connection.executemany(tiers.MADE_AGAIN, [(day,) for day in days])
    hours = minutes = 0
    for day in days:
        if day not in left:
            await _hours(connection, rollups.TOTALS, day)
            hours += await _hours(connection, rollups.HOURLY, day)
            minutes += await _minutes(connection, day)
    return Rebuilt(hours, minutes, left)


async def _hours(connection: asyncpg.Connection, table: Rollup, day: date) -> int:
    await connection.execute(f"DELETE FROM {table.name} WHERE {table.of(day)}")
    status = await connection.execute(
        f"INSERT INTO {table.name} ({', '.join(table.columns)}) "
        f"{rollups.calculated(table, rollups.rows_of(day))}"
    )
    return affected(status)


async def _minutes(connection: asyncpg.Connection, day: date) -> int:
    """The other counts of a minute do not come from rows, and stay."""
    table = rollups.MINUTES
    await connection.execute(
        f"UPDATE {table.name} SET recorded = 0, unsettled = 0 WHERE {table.of(day)}"
    )
    return affected(await connection.execute(rollups.add(table, rollups.rows_of(day))))
