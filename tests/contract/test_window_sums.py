"""What every WindowSums promises, over the twin and over PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from control.database import Database
from control.usage import COLUMNS
from control.window_sums import ANYTHING, Filter, MemoryWindowSums, Window, WindowSums
from control.window_sums_postgres import PostgresWindowSums
from runtime.clock import SystemClock
from tests.builders_ledger import a_store
from usage_sink.events import UsageEvent, read
from usage_sink.prices import NO_PRICES
from usage_sink.records import COLUMNS as WRITTEN
from usage_sink.records import Origin, UsageRecord

START = datetime(2026, 11, 20, 9, 50, tzinfo=UTC)
STEP = timedelta(minutes=7)


def a_record(number: int) -> UsageRecord:
    event = read({"id": str(UUID(int=number)), "start": "1795339815.541760"})
    assert isinstance(event, UsageEvent)
    event = replace(
        event,
        created_at=START + number * STEP,
        user_id=f"u-{number % 2}",
        service="openai" if number % 3 else "core",
        status=500 if number % 5 == 0 else 200,
        duration_ms=number * number,
    )
    return UsageRecord(event, NO_PRICES.charge(event), Origin("n", "local", "1"))


RECORDS = [a_record(number) for number in range(60)]


def as_row(record: UsageRecord) -> dict[str, Any]:
    return dict.fromkeys(COLUMNS) | dict(zip(WRITTEN, record.row(), strict=True))


@pytest.fixture
async def ledger(migrated_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_url, 5.0, SystemClock())
    assert await database.connect(asyncio.Event())
    await a_store(database.pool).write(RECORDS)
    yield database
    await database.close()


@pytest.fixture(
    params=["memory", pytest.param("postgres", marks=pytest.mark.integration)]
)
def sums(request: pytest.FixtureRequest) -> WindowSums:
    if request.param == "memory":
        return MemoryWindowSums([as_row(one) for one in RECORDS])
    return PostgresWindowSums(request.getfixturevalue("ledger"))


#: (minutes after START: from, until) -> numbers of the rows: from, until.
WINDOWS = {
    "everything": (-60, 600, 0, 60),
    "up to a full hour": (0, 10, 0, 2),
    "inside of one hour": (12, 50, 2, 8),
    "whole hours and both edges": (9, 130, 2, 19),
    "exactly an hour": (10, 70, 2, 10),
    "over a full hour, without a whole one": (0, 40, 0, 6),
    "nothing": (300, 300, 0, 0),
}


async def test_sums_are_those_of_the_rows_in_the_window(sums: WindowSums) -> None:
    found, expected = {}, {}
    for name, (start, end, first, after) in WINDOWS.items():
        window = Window(
            START + timedelta(minutes=start), START + timedelta(minutes=end)
        )
        one = await sums.sums(window, ANYTHING)
        found[name] = (one.requests, one.errors, sum(one.latency))
        errors = sum(row.event.status == 500 for row in RECORDS[first:after])
        expected[name] = (after - first, errors, after - first)

    assert found == expected


async def test_rows_can_be_chosen(sums: WindowSums) -> None:
    window = Window(START, START + 60 * STEP)
    expected = {
        Filter(user_id="u-1"): 30,
        Filter(service="core"): 20,
        Filter(user_id="u-1", service="core"): 10,
        Filter(model="none"): 0,
        Filter(user_id="u-1'; --"): 0,
    }

    found = {one: (await sums.sums(window, one)).requests for one in expected}

    assert found == expected


async def test_single_hours_come_in_the_order_asked(sums: WindowSums) -> None:
    ten = START.replace(hour=10, minute=0)
    hours = [ten + timedelta(hours=3), ten, ten - timedelta(days=7)]

    found = await sums.same_hours(hours, ANYTHING)

    assert [one.requests for one in found] == [8, 8, 0]


async def test_a_quantile_lies_between_the_edges_of_its_bucket(
    sums: WindowSums,
) -> None:
    found = await sums.sums(Window(START, START + 60 * STEP), ANYTHING)
    exact = sorted(number * number for number in range(60))

    median = found.quantile(0.5)

    assert median is not None
    assert 500 < median <= 1000
    assert 500 < exact[29] <= 1000
    assert found.quantile(1.0) == pytest.approx(5000)


@pytest.mark.integration
async def test_adjustments_count_wherever_their_rows_are(ledger: Database) -> None:
    for number in (1, 20):
        at = START + number * STEP
        await ledger.pool.execute(
            "INSERT INTO usage_adjustments SELECT gen_random_uuid(), $1, $2, 5, 0, 0,"
            " 0, 0, 7, '', 'r', 'a', '{}', now(), 0, $3",
            UUID(int=number),
            at,
            number,
        )
    await ledger.pool.execute(
        "UPDATE usage_hourly_totals SET adjusted_credits = 7, adjusted_tokens = 5 "
        "WHERE (hour, service, status_class) = "
        "(date_trunc('hour', $1::timestamptz), 'openai', 5)",
        START + 20 * STEP,
    )
    sums = PostgresWindowSums(ledger)

    edge = await sums.sums(Window(START, START + 3 * STEP), ANYTHING)
    whole = await sums.sums(Window(START, START + 60 * STEP), ANYTHING)
    other = await sums.sums(Window(START, START + 3 * STEP), Filter(service="core"))

    assert (edge.tokens, edge.credits) == (5, 7)
    assert (whole.tokens, whole.credits) == (10, 14)
    assert (other.tokens, other.credits) == (0, 0)
