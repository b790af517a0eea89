"""What every UsageQueries promises, over the twin and over PostgreSQL."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from control.completeness import Minute, Range
from control.database import Database
from control.store import MemoryUsageQueries, StoreUnavailable, UsageQueries
from control.store_postgres import PostgresUsageQueries
from control.usage import COLUMNS, Cursor, UsageQuery
from runtime.clock import SystemClock
from runtime.postgres import migrate
from tests.builders_ledger import a_store
from usage_sink.completeness import Basis, count_admitted, publish, published
from usage_sink.completeness import Watermark as Mark
from usage_sink.events import UsageEvent, read
from usage_sink.prices import NO_PRICES
from usage_sink.records import COLUMNS as WRITTEN
from usage_sink.records import Origin, UsageRecord

START = datetime(2026, 11, 22, 9, 30, 15, 541760, tzinfo=UTC)


def a_record(number: int, **changes: Any) -> UsageRecord:
    event = read({"id": str(UUID(int=number)), "start": "1795339815.541760"})
    assert isinstance(event, UsageEvent)
    at = START + timedelta(microseconds=number // 10)
    event = replace(event, created_at=at, user_id="u-1", **changes)
    return UsageRecord(event, NO_PRICES.charge(event), Origin("n", "local", "1"))


#: Ten share an instant, so that only the id orders them.
RECORDS = [
    *(a_record(number) for number in range(1, 26)),
    replace(a_record(30), event=replace(a_record(30).event, user_id="u-2")),
    replace(a_record(31), event=replace(a_record(31).event, service="openai")),
]


def as_row(record: UsageRecord) -> dict[str, Any]:
    row = dict.fromkeys(COLUMNS) | dict(zip(WRITTEN, record.row(), strict=True))
    return {**row, "recorded_at": START, "id": record.event.id}


@pytest.fixture
async def ledger(fresh_database_url: str) -> AsyncIterator[Database]:
    await migrate(fresh_database_url, package="usage_sink")
    database = Database(fresh_database_url, 5.0, SystemClock())
    assert await database.connect(asyncio.Event())
    await a_store(database.pool).write(RECORDS)
    yield database
    await database.close()


@pytest.fixture(
    params=["memory", pytest.param("postgres", marks=pytest.mark.integration)]
)
def queries(request: pytest.FixtureRequest) -> UsageQueries:
    if request.param == "memory":
        return MemoryUsageQueries([as_row(one) for one in RECORDS])
    return PostgresUsageQueries(request.getfixturevalue("ledger"))


async def numbers(queries: UsageQueries, **query: Any) -> list[int]:
    return [row["id"].int for row in await queries.find(UsageQuery(**query))]


async def test_rows_come_newest_first_and_one_more_than_asked(
    queries: UsageQueries,
) -> None:
    assert await numbers(queries, limit=3) == [31, 30, 25, 24]


async def test_rows_can_be_chosen(queries: UsageQueries) -> None:
    assert await numbers(queries, user_id="u-2") == [30]
    assert await numbers(queries, service="openai") == [31]
    assert await numbers(queries, model="none") == []
    assert await numbers(queries, user_id="u-1'; --") == []


async def test_a_period_includes_its_start_and_not_its_end(
    queries: UsageQueries,
) -> None:
    end = START + timedelta(microseconds=3)
    start = START + timedelta(microseconds=2)

    assert await numbers(queries, start=start, end=end) == [25, 24, 23, 22, 21, 20]


async def test_pages_by_cursor_are_the_whole_list(queries: UsageQueries) -> None:
    whole = await numbers(queries, limit=100)
    found: list[int] = []
    cursor = None
    while True:
        rows = (await queries.find(UsageQuery(limit=4, cursor=cursor)))[:4]
        if not rows:
            break
        found += [row["id"].int for row in rows]
        cursor = Cursor(rows[-1]["created_at"], rows[-1]["id"])

    assert found == whole
    assert len(whole) == len(RECORDS)


async def test_an_offset_skips(queries: UsageQueries) -> None:
    assert await numbers(queries, limit=1, offset=2) == [25, 24]


async def test_a_row_has_every_column(queries: UsageQueries) -> None:
    (row, *_) = await queries.find(UsageQuery(limit=1))

    assert set(COLUMNS) <= set(row)
    assert row["created_at"] == START + timedelta(microseconds=3)


@pytest.mark.integration
async def test_without_a_database_the_answer_is_unavailable() -> None:
    database = Database("postgresql://127.0.0.1:1/x", 1.0, SystemClock())

    with pytest.raises(StoreUnavailable):
        await PostgresUsageQueries(database).find(UsageQuery())


@pytest.mark.integration
async def test_what_a_sink_claims_and_counts_is_what_control_reads(
    fresh_database_url: str,
) -> None:
    await migrate(fresh_database_url, package="usage_sink")
    database = Database(fresh_database_url, 5.0, SystemClock())
    assert await database.connect(asyncio.Event())
    start, minute = START.timestamp(), START.replace(second=0, microsecond=0)
    counted = Counter({("b", int(minute.timestamp())): 3, ("a", 60): 1})
    try:
        for at in (start, start - 100):  # a claim is never taken back
            mark = Mark("b", at, Basis.FILE, pending=2, is_closed=at < start)
            await publish(database.pool, mark)
        await publish(database.pool, Mark("a", start, Basis.STREAM, pending=0))
        await count_admitted(database.pool, counted)
        await count_admitted(database.pool, counted)
        queries = PostgresUsageQueries(database)
        marks = await queries.watermarks()
        minutes = await queries.minutes(Range(minute, minute + timedelta(minutes=1)))
        known = await published(database.pool, "b"), await published(database.pool, "c")
    finally:
        await database.close()

    assert [(one.node, one.basis, one.pending, one.is_closed) for one in marks] == [
        ("a", "stream", 0, False),
        ("b", "file", 2, True),
    ]
    assert [one.complete_through for one in marks] == [START, START]
    assert known == (start, None)
    assert minutes == [
        Minute(
            node="b", minute=minute, admitted=6, recorded=0, unsettled=0, quarantined=0
        )
    ]
