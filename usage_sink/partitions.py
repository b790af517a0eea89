"""Daily partitions of the ledger, made before their day comes."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from runtime.clock import Clock
from runtime.lifecycle import wait_or_stop
from runtime.logs import get_logger
from runtime.postgres import DatabaseRejected, DatabaseUnavailable, wrap_errors

log = get_logger(__name__)

#: Yesterday too: a batch that waited over midnight belongs there.
_DAYS_BEHIND: Final = 1
_RETRY_S: Final = 60.0
_DAY_S: Final = 86_400.0
#: Serialises sinks that make partitions at the same time ("hubp" in ASCII).
_LOCK: Final = 0x68756270
#: A new partition locks the ledger for a moment; behind a long query it gives up
#: rather than holding every writer up.
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '2s'"


def days_to_make(now: float, ahead: int) -> list[str]:
    """UTC days that need a partition at Unix time `now`, in ISO form."""
    today = datetime.fromtimestamp(now, UTC).date()
    span = range(-_DAYS_BEHIND, ahead + 1)
    return [(today + timedelta(days=offset)).isoformat() for offset in span]


def seconds_to_next_day(now: float) -> float:
    """Until the next UTC midnight."""
    return _DAY_S - now % _DAY_S


async def make_partitions(pool: asyncpg.Pool, now: float, ahead: int) -> int:
    """Make what is missing; any number of sinks may do this at once.

    A day that can't get its own partition (rows of it are in the default one, or a
    lock is held) is left for the next time: rows go to the default partition.

    Raises:
        DatabaseUnavailable: no answer.
    """
    made = 0
    for day in days_to_make(now, ahead):
        try:
            made += await _make(pool, day)
        except DatabaseRejected as error:
            log.warning("no partition for this day", day=day, why=str(error))
    return made


async def _make(pool: asyncpg.Pool, day: str) -> bool:
    with wrap_errors():
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(_LOCK_TIMEOUT)
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            made = await connection.fetchval(
                "SELECT usage_logs_make_partition($1::text::date)", day
            )
    return bool(made)


async def keep_partitions(
    pool: asyncpg.Pool, clock: Clock, ahead: int, stop: asyncio.Event
) -> None:
    """Make partitions after every UTC midnight until `stop`."""
    pause = seconds_to_next_day(clock.now())
    while not await wait_or_stop(stop, pause):
        try:
            await make_partitions(pool, clock.now(), ahead)
        except DatabaseUnavailable as error:
            log.warning("partitions not made; trying again", why=str(error))
            pause = _RETRY_S
        else:
            pause = seconds_to_next_day(clock.now())
