"""What the database keeps of one request, read back for `explain`."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from control.database import Database
from control.explain import Story
from control.explain_postgres import PostgresStories
from control.store import Status
from control.store_postgres import PostgresConfigStore
from runtime.clock import SystemClock
from tests.builders_ledger import a_store
from usage_sink.events import UsageEvent, read
from usage_sink.prices import NO_PRICES
from usage_sink.records import Origin, UsageRecord

pytestmark = pytest.mark.integration


def a_record(number: int, at: float) -> UsageRecord:
    event = read(
        {
            "id": str(UUID(int=number)),
            "start": f"{at:.6f}",
            "user_id": "u-1",
            "upstream": "10.0.0.7:1",
            "limits": "60;4;31;role user: 60 requests per 60 s",
        }
    )
    assert isinstance(event, UsageEvent)
    return UsageRecord(event, NO_PRICES.charge(event), Origin("n", "local", "1"))


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_url, 5.0, SystemClock())
    assert await database.connect(asyncio.Event())
    yield database
    await database.close()


async def story_of(database: Database, number: int) -> Story:
    found = await PostgresStories(database).of(UUID(int=number))
    assert found is not None
    return found


async def test_a_row_comes_with_its_seal_and_the_revision_of_its_time(
    database: Database,
) -> None:
    configs, clock = PostgresConfigStore(database), SystemClock()
    old = await configs.add({"version": 1}, "file", "old")
    await configs.settle(old.rev, Status.ACTIVE)
    began = clock.now()
    new = await configs.add({"version": 1}, "file", "new")
    await configs.settle(new.rev, Status.ACTIVE)
    ledger = a_store(database.pool)
    await ledger.write([a_record(1, began)])
    await ledger.write([a_record(2, clock.now())])

    first, second = await story_of(database, 1), await story_of(database, 2)

    assert first.row["user_id"] == "u-1"
    assert first.row["metadata"]["gateway"]["limits"] == [
        {
            "rule": "role user: 60 requests per 60 s",
            "limit": 60,
            "remaining": 4,
            "reset": 31,
        }
    ]
    assert first.seal is not None
    assert second.seal is not None
    assert (first.seal.is_linked, second.seal.is_linked) == (True, True)
    assert second.seal.previous == first.seal.head
    assert first.revision is not None
    assert second.revision is not None
    assert (first.revision.rev, second.revision.rev) == (old.rev, new.rev)
    assert await PostgresStories(database).of(UUID(int=3)) is None


async def test_a_chain_that_was_changed_is_not_linked(database: Database) -> None:
    ledger = a_store(database.pool)
    at = SystemClock().now()
    await ledger.write([a_record(1, at)])
    await ledger.write([a_record(2, at)])
    await database.pool.execute("ALTER TABLE usage_seals DISABLE TRIGGER USER")
    await database.pool.execute(
        "UPDATE usage_seals SET head = sha256('forged') "
        "WHERE seal = (SELECT min(seal) FROM usage_seals)"
    )

    found = await story_of(database, 2)

    assert found.seal is not None
    assert not found.seal.is_linked


async def test_corrections_come_in_their_order(database: Database) -> None:
    at = SystemClock().now()
    record = a_record(1, at)
    await a_store(database.pool).write([record])
    row = await database.pool.fetchrow("SELECT chain, seal FROM usage_logs")
    assert row is not None
    for day, reason in ((2, "second"), (1, "first")):
        await database.pool.execute(
            "INSERT INTO usage_adjustments SELECT gen_random_uuid(), $1, $2, 5, 0, 0,"
            " 0, 0, 7, '', $3, 'a', '{}', $4, $5, $6",
            record.event.id,
            record.event.created_at,
            reason,
            datetime(2030, 1, day, tzinfo=UTC),
            *(row["chain"], row["seal"]),
        )

    found = await story_of(database, 1)

    assert [one.row["reason"] for one in found.adjustments] == ["first", "second"]
    assert [one.row["credits"] for one in found.adjustments] == [7, 7]
    assert found.adjustments[0].seal == found.seal
