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
from control.store import (
    MemoryUsageQueries,
    QueryTimeout,
    StoreUnavailable,
    UsageQueries,
)
from control.usage import COLUMNS, Cursor, Sort, Statuses, UsageFilter, UsageQuery
from control.usage_postgres import PostgresUsageQueries
from runtime.clock import SystemClock
from runtime.contracts import Outcome, UsageSource
from tests.builders_ledger import a_store
from usage_sink.completeness import Basis, count_admitted, publish, published
from usage_sink.completeness import Watermark as Mark
from usage_sink.events import UsageEvent, read
from usage_sink.prices import NO_PRICES
from usage_sink.records import COLUMNS as WRITTEN
from usage_sink.records import Origin, UsageRecord
from usage_sink.tokens import Usage

START = datetime(2026, 11, 22, 9, 30, 15, 541760, tzinfo=UTC)


def a_record(number: int, **changes: Any) -> UsageRecord:
    event = read({"id": str(UUID(int=number)), "start": "1795339815.541760"})
    assert isinstance(event, UsageEvent)
    at = START + timedelta(microseconds=number // 10)
    event = replace(event, **{"created_at": at, "user_id": "u-1", **changes})
    return UsageRecord(event, NO_PRICES.charge(event), Origin("n", "local", "1"))


#: Ten share an instant, so that only the id orders them.
RECORDS = [
    *(a_record(number) for number in range(1, 26)),
    replace(a_record(30), event=replace(a_record(30).event, user_id="u-2")),
    replace(a_record(31), event=replace(a_record(31).event, service="openai")),
    a_record(32, status=404, user_id="u-3", usage=Usage(UsageSource.REPORTED, total=7)),
    a_record(33, status=429, outcome=Outcome.LIMITED),
]


def as_row(record: UsageRecord) -> dict[str, Any]:
    row = dict.fromkeys(COLUMNS) | dict(zip(WRITTEN, record.row(), strict=True))
    return {**row, "recorded_at": START, "id": record.event.id}


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
def queries(request: pytest.FixtureRequest) -> UsageQueries:
    if request.param == "memory":
        return MemoryUsageQueries([as_row(one) for one in RECORDS])
    return PostgresUsageQueries(request.getfixturevalue("ledger"))


async def numbers(queries: UsageQueries, **query: Any) -> list[int]:
    fields = UsageQuery.__dataclass_fields__
    page = {name: query.pop(name) for name in list(query) if name in fields}
    asked = UsageQuery(chosen=UsageFilter(**query), **page)
    return [row["id"].int for row in await queries.find(asked)]


async def test_rows_come_newest_first_and_one_more_than_asked(
    queries: UsageQueries,
) -> None:
    assert await numbers(queries, limit=3) == [33, 32, 31, 30]


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
    assert await numbers(queries, limit=1, offset=4) == [25, 24]


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
    migrated_url: str,
) -> None:
    database = Database(migrated_url, 5.0, SystemClock())
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


async def test_rows_can_be_chosen_by_how_they_ended(queries: UsageQueries) -> None:
    statuses = Statuses.parse("4xx")

    assert await numbers(queries, statuses=statuses) == [33, 32]
    assert await numbers(queries, statuses=Statuses.parse("429")) == [33]
    assert await numbers(queries, statuses=Statuses.parse("430")) == []
    assert await numbers(queries, outcome=Outcome.LIMITED) == [33]
    assert await numbers(queries, outcome=Outcome.LIMITED, statuses=statuses) == [33]
    assert await numbers(queries, outcome=Outcome.LIMITED, service="openai") == []


async def test_rows_of_several_users_can_be_chosen(queries: UsageQueries) -> None:
    several = frozenset({"u-2", "u-3", "nobody"})

    assert await numbers(queries, user_ids=several) == [32, 30]
    assert await numbers(queries, user_ids=several, user_id="u-1") == []
    assert await numbers(queries, user_ids=frozenset()) == []


@pytest.mark.parametrize("sort", Sort)
async def test_pages_by_cursor_are_the_whole_list_from_either_end(
    queries: UsageQueries, sort: Sort
) -> None:
    whole = await numbers(queries, limit=100, sort=sort)
    found: list[int] = []
    cursor = None
    while rows := (await queries.find(UsageQuery(limit=4, cursor=cursor, sort=sort)))[
        :4
    ]:
        found += [row["id"].int for row in rows]
        cursor = Cursor(rows[-1]["created_at"], rows[-1]["id"])

    assert found == whole == sorted(whole, reverse=sort is Sort.NEWEST)
    assert len(whole) == len(RECORDS)


async def test_only_the_columns_that_are_wanted_are_read(queries: UsageQueries) -> None:
    (row, *_) = await queries.find(UsageQuery(limit=1, columns=("tokens",)))

    assert {"tokens", "created_at", "id"} <= set(row)


async def test_totals_are_of_all_that_is_chosen(queries: UsageQueries) -> None:
    everything = await queries.totals(UsageFilter())
    failed = await queries.totals(UsageFilter(statuses=Statuses.parse("4xx")))

    assert (everything.requests, everything.errors) == (len(RECORDS), 2)
    assert (failed.requests, failed.errors, failed.tokens) == (2, 2, 7)


@pytest.mark.integration
async def test_totals_have_the_corrections_of_their_rows(ledger: Database) -> None:
    at = RECORDS[0].event.created_at
    for number, credits_ in ((1, 5), (31, 7), (99, 1000)):  # there is no row 99
        await ledger.pool.execute(
            """INSERT INTO usage_adjustments (id, usage_id, usage_created_at, tokens,
            input_tokens, output_tokens, cached_tokens, reasoning_tokens, credits,
            price_version, reason, author, metadata, chain, seal)
            SELECT gen_random_uuid(), $1, coalesce((SELECT created_at FROM usage_logs
            WHERE id = $1), $2), 2, 0, 0, 0, 0, $3, 'v', 'why', 'who', '{}', 1, 1""",
            *(UUID(int=number), at, credits_),
        )
    queries = PostgresUsageQueries(ledger)
    everything = await queries.totals(UsageFilter())
    of_openai = await queries.totals(UsageFilter(service="openai", start=at))
    before = await queries.totals(UsageFilter(end=at))

    assert (everything.credits, everything.adjusted_credits) == (12, 12)
    assert (everything.tokens, everything.adjusted_tokens) == (11, 4)
    assert (of_openai.credits, of_openai.requests) == (7, 1)
    assert (before.credits, before.requests) == (0, 0)


@pytest.mark.integration
async def test_a_question_that_takes_too_long_is_stopped(
    migrated_url: str,
) -> None:
    database = Database(migrated_url, 5.0, SystemClock(), query_timeout_s=0.2)
    assert await database.connect(asyncio.Event())
    try:
        with pytest.raises(QueryTimeout):
            async with database.reading() as connection:
                await connection.execute("SELECT pg_sleep(60)")
        running = await database.pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)'"
            " AND state = 'active' AND datname = current_database()"
        )
    finally:
        await database.close()

    assert running == 0


@pytest.mark.integration
async def test_who_reads_the_ledger_can_not_write(ledger: Database) -> None:
    with pytest.raises(StoreUnavailable):
        async with ledger.reading() as connection:
            await connection.execute("CREATE TABLE mine (a int)")
