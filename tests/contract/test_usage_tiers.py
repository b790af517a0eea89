"""Sums of days and months hold what the hours hold, or say that they do not."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from tests.builders_ledger import a_ledger, a_record, a_store
from usage_sink import tiers
from usage_sink.adjustments import Adjustment
from usage_sink.compaction import compact, days_due, months_due
from usage_sink.rebuild import rebuild
from usage_sink.tiers import Period
from usage_sink.verify import verify

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
MONDAY = datetime(2026, 10, 19, 7, tzinfo=UTC)
LAST_OCTOBER = datetime(2026, 10, 31, 23, 59, 59, 999_999, tzinfo=UTC)
FIRST = datetime(2026, 10, 30, 7, tzinfo=UTC)

_DIFFERENCES = """
WITH hours AS (
    SELECT date_trunc('{period}', hour, 'UTC')::date AS start, user_id,
        'service' AS grain, service AS value, sum(requests) AS requests,
        sum(tokens) AS tokens, sum(adjusted_tokens) AS adjusted
    FROM usage_hourly GROUP BY 1, 2, 4
), kept AS (
    SELECT {period} AS start, user_id, grain, value, requests, tokens, adjusted_tokens
    FROM {table} WHERE grain = 'service'
), current AS (
    SELECT start FROM usage_tiers WHERE period = '{period}' AND NOT is_stale
)
SELECT count(*) FROM current JOIN (
    (TABLE hours EXCEPT TABLE kept) UNION ALL (TABLE kept EXCEPT TABLE hours)
) AS d USING (start)
"""


@pytest.fixture
async def pool(migrated_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with a_ledger(migrated_url) as pool:
        yield pool


async def write(pool: asyncpg.Pool, *instants: datetime) -> None:
    await a_store(pool).write([a_record(created_at=at) for at in instants])


async def current(pool: asyncpg.Pool) -> list[tuple[str, str]]:
    found = await pool.fetch(
        "SELECT period, start FROM usage_tiers WHERE NOT is_stale ORDER BY 1, 2"
    )
    return [(row["period"], f"{row['start']:%m-%d}") for row in found]


async def differences(pool: asyncpg.Pool) -> int:
    return sum(
        [
            await pool.fetchval(_DIFFERENCES.format(period=period, table=table))
            for period, table in (("day", "usage_daily"), ("month", "usage_monthly"))
        ]
    )


async def test_closed_days_and_months_are_summed_and_the_rest_is_not(
    pool: asyncpg.Pool,
) -> None:
    await write(pool, FIRST, LAST_OCTOBER, NOW)

    made = await compact(pool, NOW.timestamp())

    assert made == 5
    assert await current(pool) == [
        *(("day", "10-30"), ("day", "10-31"), ("day", "11-01"), ("day", "11-02")),
        ("month", "10-01"),
    ]
    assert await differences(pool) == 0
    assert await pool.fetchval("SELECT sum(requests) FROM usage_monthly_totals") == 2
    assert await compact(pool, NOW.timestamp()) == 0


async def test_a_late_row_makes_its_day_and_month_stale_until_they_are_summed_again(
    pool: asyncpg.Pool,
) -> None:
    await write(pool, FIRST, NOW)
    await compact(pool, NOW.timestamp())

    await write(pool, LAST_OCTOBER, NOW + timedelta(seconds=1))
    while_stale = await current(pool)
    await compact(pool, NOW.timestamp())

    assert while_stale == [("day", "10-30"), ("day", "11-01"), ("day", "11-02")]
    assert ("month", "10-01") in await current(pool)
    assert await differences(pool) == 0
    assert await pool.fetchval("SELECT sum(requests) FROM usage_monthly_totals") == 2


async def test_a_correction_makes_the_day_of_its_row_stale(pool: asyncpg.Pool) -> None:
    store, record = a_store(pool), a_record(created_at=FIRST)
    await store.write([record])
    await compact(pool, NOW.timestamp())

    await store.adjust(
        [
            Adjustment(
                usage_id=record.event.id,
                usage_created_at=FIRST,
                tokens=7,
                credits=0,
                price_version="",
                reason="test",
                author="test",
            )
        ]
    )
    stale = await current(pool)
    await compact(pool, NOW.timestamp())

    assert ("day", "10-30") not in stale
    assert await pool.fetchval("SELECT adjusted_tokens FROM usage_daily_totals") == 7
    assert await differences(pool) == 0


async def test_who_sums_waits_for_who_writes_and_sees_the_rows(
    pool: asyncpg.Pool,
) -> None:
    """The row is on its way when the day is summed: it is in the sum."""
    await write(pool, FIRST)
    day = FIRST.date()
    async with pool.acquire() as writer:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(
            "SELECT pg_advisory_xact_lock_shared(1752523380, $1)", day.toordinal()
        )
        await writer.execute("UPDATE usage_hourly SET requests = requests + 1")
        summing = asyncio.create_task(compact(pool, NOW.timestamp()))
        async with asyncio.timeout(10):
            while not await pool.fetchval(
                "SELECT count(*) FROM pg_locks WHERE NOT granted"
            ):
                await asyncio.sleep(0.01)
        await transaction.commit()
    await summing

    assert await differences(pool) == 0
    found = await pool.fetchval(
        "SELECT requests FROM usage_daily WHERE grain = 'user' AND day = $1", day
    )
    assert found == 2


async def test_sums_made_again_by_hand_make_the_days_stale(
    pool: asyncpg.Pool, migrated_url: str
) -> None:
    await write(pool, FIRST)
    await compact(pool, NOW.timestamp())

    await rebuild(migrated_url, FIRST.date(), FIRST.date())

    assert ("day", "10-30") not in await current(pool)
    assert ("month", "10-01") not in await current(pool)


async def test_nothing_is_summed_of_an_empty_ledger(pool: asyncpg.Pool) -> None:
    assert await compact(pool, NOW.timestamp()) == 0


def test_a_month_is_due_when_all_its_days_are_summed() -> None:
    first, end = date(2026, 10, 30), date(2026, 11, 2)
    days = {(Period.DAY, day): 1 for day in (first, date(2026, 10, 31))}

    assert days_due(first, end, days) == [date(2026, 11, 1)]
    assert months_due(first, end, days) == [date(2026, 10, 1)]
    assert months_due(first, end, {(Period.DAY, first): 1}) == []
    assert months_due(first, date(2026, 10, 31), days) == []


@pytest.mark.parametrize(
    ("table", "period"),
    [
        ("usage_daily", "day of 2026-10-30"),
        ("usage_daily_totals", "day of 2026-10-30"),
        ("usage_monthly", "month of 2026-10-01"),
        ("usage_monthly_totals", "month of 2026-10-01"),
        ("usage_parts", "day of 2026-10-30"),
        ("usage_user_parts", "day of 2026-10-30"),
        ("usage_weekly", "week of 2026-10-26"),
    ],
)
async def test_a_sum_that_was_changed_is_found_and_made_again(
    pool: asyncpg.Pool, migrated_url: str, table: str, period: str
) -> None:
    await write(pool, FIRST - timedelta(days=4), FIRST, LAST_OCTOBER)
    await compact(pool, NOW.timestamp())
    before = await verify(migrated_url, None)
    await pool.execute(f"UPDATE {table} SET tokens = tokens + 1")

    found = await verify(migrated_url, None)
    await rebuild(migrated_url, date(2026, 10, 1), date(2026, 10, 31))
    await compact(pool, NOW.timestamp())
    after = await verify(migrated_url, None)

    assert before.is_good
    assert any(
        finding.problem.startswith(f"{table} differs from finer sums for the {period}")
        for finding in found.findings
    )
    assert after.findings == []


async def test_a_week_is_current_as_long_as_its_days_are_what_they_were(
    pool: asyncpg.Pool,
) -> None:
    await write(pool, MONDAY)

    async def weeks() -> list[tuple[str, int]]:
        return [
            (f"{row['start']:%m-%d}", row["version"])
            for row in await pool.fetch(tiers.SUMMED)
            if row["period"] == Period.WEEK
        ]

    none = await weeks()
    await compact(pool, NOW.timestamp())
    summed = await weeks()
    await write(pool, MONDAY + timedelta(days=3))
    with_a_late_row = await weeks()
    await compact(pool, NOW.timestamp())

    assert none == []
    assert summed == [("10-19", 7), ("10-26", 7)]
    assert with_a_late_row == [("10-26", 7)]
    assert await weeks() == [("10-19", 8), ("10-26", 7)]
    assert await pool.fetchval("SELECT sum(requests) FROM usage_weekly") == 2


async def test_of_an_archived_day_no_quarters_are_kept(pool: asyncpg.Pool) -> None:
    await write(pool, FIRST, NOW)
    await compact(pool, NOW.timestamp())
    parts = """
        SELECT DISTINCT minutes, has_quarters FROM usage_parts
        JOIN usage_tiers t ON t.period = 'day' AND t.start = day
        WHERE day = '2026-10-30' ORDER BY minutes
    """

    before = await pool.fetch(parts)
    await pool.execute(
        "INSERT INTO usage_archives (day, file, rows, tokens, credits, sha256, "
        "dropped_at) VALUES ('2026-10-30', 'f', 1, 1, 1, 's', now())"
    )
    await pool.execute("UPDATE usage_tiers SET is_stale = true WHERE period = 'day'")
    await compact(pool, NOW.timestamp())
    after = await pool.fetch(parts)

    assert [tuple(row) for row in before] == [(15, True), (60, True)]
    assert [tuple(row) for row in after] == [(60, False)]


async def test_other_tasks_stay_free_while_another_sink_sums(
    pool: asyncpg.Pool,
) -> None:
    await write(pool, FIRST)
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(1752523371)")

        assert await compact(pool, NOW.timestamp()) == 0

    assert await compact(pool, NOW.timestamp()) > 0
