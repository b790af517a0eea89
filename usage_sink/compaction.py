"""Keeps the sums of closed days, weeks and months current, in the background.

A day is summed some minutes after it has ended, and again after rows came late; a
week and a month when all their days are. One sink at a time does it, and nothing
depends on it but the speed of answers: who asks takes the hours where a sum is missing
or stale.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

import asyncpg

from runtime.clock import Clock
from runtime.contracts import TABLE_USAGE_HOURLY_TOTALS
from runtime.lifecycle import wait_or_stop
from runtime.logs import get_logger
from runtime.postgres import DatabaseRejected, DatabaseUnavailable, wrap_errors
from usage_sink import tiers
from usage_sink.tiers import Period, Sums, next_month

log = get_logger(__name__)

#: One sink at a time ("hubk" in ASCII).
_LOCK: Final = 0x6875626B
#: Most rows of a day have come by then; those that come later cost a second run.
_AFTER_MIDNIGHT: Final = timedelta(minutes=10)
#: A month of many users is summed in seconds.
_TIMEOUT_S: Final = 120.0
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '5s'"
_DAY: Final = timedelta(days=1)

_FIRST: Final = f"SELECT min(hour) FROM {TABLE_USAGE_HOURLY_TOTALS}"
_TRY_LOCK: Final = "SELECT pg_try_advisory_xact_lock($1)"

_Connection = asyncpg.pool.PoolConnectionProxy
_Versions = dict[tuple[Period, date], int]


async def keep_compacted(
    pool: asyncpg.Pool, clock: Clock, interval_s: float, until: asyncio.Event
) -> None:
    """Sum what is due, every `interval_s`, until stopped."""
    while True:
        try:
            await compact(pool, clock.now())
        except (DatabaseUnavailable, DatabaseRejected) as error:
            log.warning("days not summed; trying again", why=str(error))
        if await wait_or_stop(until, interval_s):
            return


async def compact(pool: asyncpg.Pool, now: float) -> int:
    """Sum every closed period that is not current; returns how many were.

    Raises:
        DatabaseUnavailable: no answer; what was summed before stays.
    """
    made = 0
    end = (datetime.fromtimestamp(now, UTC) - _AFTER_MIDNIGHT).date()
    with wrap_errors():
        async with pool.acquire() as connection:
            first = await connection.fetchval(_FIRST)
            if first is None:
                return 0
            for day in days_due(first.date(), end, await _summed(connection)):
                made += await _sum_day(connection, day)
            for week in weeks_due(first.date(), end, await _summed(connection)):
                made += await _sum_week(connection, week)
            for month in months_due(first.date(), end, await _summed(connection)):
                made += await _sum_month(connection, month)
    if made:
        log.info("days and months summed", periods=made)
    return made


def days_due(first: date, end: date, summed: _Versions) -> list[date]:
    """Days from `first` until `end` whose sums are missing or stale, newest first."""
    days = [first + offset * _DAY for offset in range((end - first).days)]
    return [one for one in reversed(days) if (Period.DAY, one) not in summed]


def months_due(first: date, end: date, summed: _Versions) -> list[date]:
    """First days of the months that end before `end` and can be summed now."""
    due, month = [], first.replace(day=1)
    while next_month(month) <= end:
        if (Period.MONTH, month) not in summed and all(
            (Period.DAY, day) in summed or day < first for day in days_of(month)
        ):
            due.append(month)
        month = next_month(month)
    return due


def weeks_due(first: date, end: date, summed: _Versions) -> list[date]:
    """Mondays of the whole weeks before `end` that can be summed now."""
    weeks = [first - first.weekday() * _DAY]
    while weeks[-1] + 14 * _DAY <= end:
        weeks.append(weeks[-1] + 7 * _DAY)
    return [
        one
        for one in weeks
        if (Period.WEEK, one) not in summed
        and all((Period.DAY, one + at * _DAY) in summed for at in range(7))
    ]


def days_of(month: date) -> list[date]:
    count = (next_month(month) - month).days
    return [month + offset * _DAY for offset in range(count)]


async def _summed(connection: _Connection) -> _Versions:
    found = await connection.fetch(tiers.SUMMED)
    return {(Period(one["period"]), one["start"]): one["version"] for one in found}


async def _sum_day(connection: _Connection, day: date) -> bool:
    async with connection.transaction():
        if not await _is_ours(connection):
            return False
        await connection.execute(tiers.lock([day], is_shared=False))
        for sums in (*tiers.SUMS[Period.DAY], *tiers.QUARTERS):
            await _make(connection, sums, day)
        # Asked last: rows that were read can't be dropped until the transaction ends.
        is_archived = await connection.fetchval(tiers.IS_ARCHIVED, day)
        if is_archived:
            for sums in tiers.QUARTERS:
                await connection.execute(sums.delete, day)
        await _current(connection, Period.DAY, day, has_quarters=not is_archived)
    return True


async def _sum_week(connection: _Connection, week: date) -> bool:
    """A day that changes meanwhile has another version: the week is not current."""
    async with connection.transaction():
        if not await _is_ours(connection):
            return False
        version = await connection.fetchval(tiers.VERSION_OF_WEEK, week)
        if version is None:
            return False
        for sums in tiers.SUMS[Period.WEEK]:
            await _make(connection, sums, week)
        await connection.execute(tiers.CURRENT_WEEK, week, version)
    return True


async def _sum_month(connection: _Connection, month: date) -> bool:
    """Summed first and locked after: a writer never waits for a whole month's sum."""
    days = days_of(month)
    before = _versions(await _summed(connection), days)
    try:
        async with connection.transaction():
            if not await _is_ours(connection):
                return False
            for sums in tiers.SUMS[Period.MONTH]:
                await _make(connection, sums, month)
            await connection.execute(tiers.lock(days, is_shared=False))
            await _expect(connection, days, before)
            await _current(connection, Period.MONTH, month)
    except _Changed:
        return False
    return True


class _Changed(Exception):
    """What was summed is no longer what the days hold."""


async def _expect(
    connection: _Connection, days: Sequence[date], versions: list[int | None]
) -> None:
    if _versions(await _summed(connection), days) != versions:
        raise _Changed


def _versions(summed: _Versions, days: Sequence[date]) -> list[int | None]:
    return [summed.get((Period.DAY, day)) for day in days]


async def _is_ours(connection: _Connection) -> bool:
    await connection.execute(_LOCK_TIMEOUT)
    return bool(await connection.fetchval(_TRY_LOCK, _LOCK))


async def _make(connection: _Connection, sums: Sums, start: date) -> None:
    """Replace the sums of a period."""
    await connection.execute(sums.delete, start)
    await connection.execute(
        sums.insert, start, *sums.period.bounds(start), timeout=_TIMEOUT_S
    )


async def _current(
    connection: _Connection, period: Period, start: date, *, has_quarters: bool = False
) -> None:
    await connection.execute(tiers.CURRENT, period, start, has_quarters)
