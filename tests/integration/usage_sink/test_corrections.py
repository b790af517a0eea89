"""What comes late, twice or again: corrected beside the row, never in it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from runtime.clock import FakeClock
from runtime.contracts import Outcome, UsageSource
from runtime.migrations import migrate
from runtime.postgres import DatabaseRejected
from tests.builders_ledger import START, a_ledger, a_record, a_store
from usage_sink.adjustments import Adjustment
from usage_sink.events import Usage
from usage_sink.prices import PriceBook, parse
from usage_sink.records import UsageRecord
from usage_sink.store import Written
from usage_sink.verify import verify

BOOK = {
    "version": "v2",
    "prices": [
        {"service": "openai", "model": "*", "from": "2026-01-01", "per_call": "3"}
    ],
}


def priced(record: UsageRecord) -> UsageRecord:
    book: PriceBook = parse(BOOK)
    return replace(record, charge=book.charge(record.event))


def an_ai_call(id_: UUID | None = None, **changes: Any) -> UsageRecord:
    usage = Usage(UsageSource.PROVIDER, 124, 101, 23, 64, 7)
    event = {
        "service": "openai",
        "model": "gpt-4o",
        "usage": usage,
        "is_ai": True,
        "outcome": Outcome.OK,
    }
    return priced(a_record(id_, **{**event, **changes}))


def unsettled(id_: UUID) -> UsageRecord:
    return a_record(id_, service="openai", outcome=Outcome.UNSETTLED, status=0)


def an_adjustment(of: UsageRecord, **changes: Any) -> Adjustment:
    values: dict[str, Any] = {
        "usage_id": of.event.id,
        "usage_created_at": of.event.created_at,
        "credits": 5,
        "price_version": "v2",
        "reason": "repriced",
        "author": "ada",
    }
    return Adjustment(**{**values, **changes})


@pytest.fixture
async def pool(migrated_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with a_ledger(migrated_url) as pool:
        yield pool


async def test_a_record_that_comes_after_it_was_given_up_is_an_adjustment(
    pool: asyncpg.Pool, migrated_url: str
) -> None:
    store, lost = a_store(pool), uuid4()
    await store.write([unsettled(lost), a_record()])
    late = an_ai_call(lost)

    results = [await store.write([late, a_record(), late]) for _ in range(2)]

    rows = await pool.fetch(
        "SELECT outcome, tokens FROM usage_logs WHERE id = $1", lost
    )
    (made,) = await pool.fetch("SELECT * FROM usage_adjustments")
    (hour,) = await pool.fetch(
        "SELECT adjusted_tokens, adjusted_credits FROM usage_hourly "
        "WHERE service = 'openai'"
    )
    assert [tuple(row) for row in rows] == [("unsettled", 0)]
    assert results == [Written(new=1, known=2)] * 2
    assert (made["usage_id"], made["reason"]) == (lost, "settled_late")
    assert (made["tokens"], made["reasoning_tokens"], made["credits"]) == (124, 7, 3)
    assert tuple(hour) == (124, 3)
    assert (await verify(migrated_url, None)).is_good


async def test_giving_up_a_request_that_has_its_record_changes_nothing(
    pool: asyncpg.Pool,
) -> None:
    store, done = a_store(pool), uuid4()
    await store.write([an_ai_call(done)])

    assert await store.write([unsettled(done)]) == Written(known=1)
    assert await pool.fetchval("SELECT outcome FROM usage_logs") == "ok"
    assert await pool.fetchval("SELECT count(*) FROM usage_adjustments") == 0


async def test_a_reported_call_counts_once_whatever_time_it_comes_with(
    pool: asyncpg.Pool,
) -> None:
    store, call = a_store(pool), uuid4()
    usage = Usage(UsageSource.REPORTED, 10, 4, 6)
    reports = [
        an_ai_call(call, usage=usage, created_at=START + timedelta(seconds=at))
        for at in range(4)
    ]

    first = await store.write(reports[1:3])
    again = [await store.write([report]) for report in reports]

    assert first == Written(new=1, known=1)
    assert again == [Written(known=1)] * 4
    assert await pool.fetchval("SELECT created_at FROM usage_logs") == (
        START + timedelta(seconds=1)
    )


async def test_an_adjustment_is_kept_once_and_is_in_the_sums(
    pool: asyncpg.Pool, migrated_url: str
) -> None:
    store, calls = a_store(pool), [an_ai_call(), an_ai_call()]
    await store.write(calls)
    adjustments = [an_adjustment(call) for call in calls]

    made = [await store.adjust(adjustments) for _ in range(2)]
    other = await store.adjust(
        [an_adjustment(calls[0], price_version="v3", credits=-2)]
    )

    assert (made, other) == ([2, 0], 1)
    assert await pool.fetchval("SELECT adjusted_credits FROM usage_hourly") == 8
    report = await verify(migrated_url, None)
    assert report.is_good
    assert report.adjustments == 3


async def test_a_changed_adjustment_is_found(
    pool: asyncpg.Pool, migrated_url: str
) -> None:
    store, call = a_store(pool, "c-1"), an_ai_call()
    await store.write([call])
    await store.adjust([an_adjustment(call)])
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("UPDATE usage_adjustments SET author = 'eve'")

    (finding,) = (await verify(migrated_url, None)).findings

    assert str(finding) == (
        "adjustments: chain c-1 batch 2 has rows that were changed, among 1"
    )


async def test_an_adjustment_that_fits_no_column_is_refused_as_a_whole(
    pool: asyncpg.Pool,
) -> None:
    store, call = a_store(pool), an_ai_call()
    await store.write([call])

    with pytest.raises(DatabaseRejected):
        await store.adjust([an_adjustment(call), an_adjustment(call, credits=2**40)])

    assert await store.adjust([]) == 0
    assert await pool.fetchval("SELECT count(*) FROM usage_adjustments") == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE usage_adjustments SET credits = 0",
        "DELETE FROM usage_adjustments",
        "UPDATE usage_seals SET rows = 1",
        "DELETE FROM usage_seals",
        "TRUNCATE usage_seals",
        "DELETE FROM usage_chains",
        "UPDATE usage_report_ids SET created_at = now()",
    ],
)
async def test_what_proves_the_ledger_can_not_be_changed_either(
    pool: asyncpg.Pool, statement: str
) -> None:
    with pytest.raises(asyncpg.RestrictViolationError, match="is written once"):
        await pool.execute(statement)


async def test_a_copy_of_an_archived_day_is_set_aside(pool: asyncpg.Pool) -> None:
    clock = FakeClock((START + timedelta(days=30)).timestamp())
    store, old = a_store(pool, clock=clock), a_record()
    await store.write([old])
    await pool.execute(
        "INSERT INTO usage_archives (day, file, rows, tokens, credits, sha256) "
        "VALUES ('2026-11-22', 'f', 1, 0, 0, '')"
    )
    archived = await store.write([old])
    await pool.execute("UPDATE usage_archives SET dropped_at = now()")
    fresh = a_record(created_at=datetime.fromtimestamp(clock.now(), UTC))

    dropped = await store.write([old, fresh])

    reason = await pool.fetchval("SELECT reason FROM usage_quarantine")
    minutes = await pool.fetchval("SELECT sum(quarantined) FROM usage_minutes")
    assert archived == Written(known=1)
    assert dropped == Written(new=1, quarantined=1)
    assert reason == "its day is archived"
    assert minutes == 1


async def test_another_writer_of_the_same_chain_is_noticed_and_nothing_is_lost(
    pool: asyncpg.Pool, migrated_url: str
) -> None:
    one, other = a_store(pool, "c-1"), a_store(pool, "c-1")
    await one.write([a_record()])
    await other.write([a_record()])

    with pytest.raises(Exception, match="another process") as caught:
        await one.write([a_record()])

    assert type(caught.value).__name__ == "LedgerUnavailable"
    assert await one.write([a_record()]) == Written(new=1)
    assert (await verify(migrated_url, None)).is_good


async def test_rows_from_before_the_seals_are_sealed_by_the_migration(
    fresh_database_url: str,
) -> None:
    await migrate(fresh_database_url, "usage_sink", "0001")
    connection = await asyncpg.connect(fresh_database_url)
    await connection.execute(
        "INSERT INTO usage_logs (id, service, tokens, credits, metadata, created_at, "
        "status, outcome, duration_ms, bytes_received, bytes_sent, usage_source, "
        "pricing, node) SELECT gen_random_uuid(), 'users', 3, 1, '{}', "
        "now() - n * interval '1 day', 200, 'ok', 5, 1, 1, 'absent', 'free', 'n' "
        "FROM generate_series(1, 5) n"
    )
    await migrate(fresh_database_url, "usage_sink")
    async with a_ledger(fresh_database_url):
        good = await verify(fresh_database_url, None)
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(
            "DELETE FROM usage_logs WHERE created_at < now() - interval '100 hours'"
        )
        bad = await verify(fresh_database_url, None)
    await connection.close()

    assert good.is_good
    assert (good.rows, good.seals) == (5, 1)
    assert str(bad.findings[0]) == (
        "rows: chain before-seals batch 0 had 5 rows and has 4"
    )
