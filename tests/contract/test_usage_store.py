"""What every UsageStore promises, over the twin and over PostgreSQL."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from runtime.clock import FakeClock
from runtime.contracts import UsageSource
from runtime.contracts.access_log import ACCESS_LOG_ATTRIBUTES, LOG_SEPARATOR
from runtime.migrations import migrate
from runtime.postgres import version_table
from tests.builders_ledger import START, a_ledger, a_record, a_request, a_store
from usage_sink.errors import LedgerUnavailable
from usage_sink.events import Usage
from usage_sink.intake import Intake
from usage_sink.partitions import keep_partitions, make_partitions
from usage_sink.plain import PlainRecord, Record
from usage_sink.pricing import PricesInForce
from usage_sink.records import COLUMNS, Misfit, UsageRecord
from usage_sink.schema import metadata
from usage_sink.segments import Entry, Kind, Position
from usage_sink.store import MemoryUsageStore, UsageStore, Written

POISON = UUID(int=13)
NEXT_DAY = "usage_logs_20261124"


def poison() -> UsageRecord:
    """A record that PostgreSQL refuses: the mapper would never make it."""
    return a_record(POISON, status=1000)


@pytest.fixture
async def ledger(migrated_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with a_ledger(migrated_url) as pool:
        yield pool


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> UsageStore:
    if request.param == "memory":
        return MemoryUsageStore(refused=frozenset({POISON}))
    return a_store(request.getfixturevalue("ledger"))


async def test_what_is_new_is_told_from_what_is_known(store: UsageStore) -> None:
    first, second, third = a_record(), a_record(), a_record()

    assert await store.write([first, second]) == Written(new=2)
    assert await store.write([second, third]) == Written(new=1, known=1)


async def test_a_batch_sent_ten_times_gives_one_row_each(store: UsageStore) -> None:
    batch = [a_record() for _ in range(20)]

    results = [await store.write(batch) for _ in range(10)]

    assert sum(result.new for result in results) == 20
    assert sum(result.known for result in results) == 180


async def test_a_record_twice_in_one_batch_is_one_row(store: UsageStore) -> None:
    record = a_record()

    assert await store.write([record, record]) == Written(new=1, known=1)


async def test_a_poison_record_is_set_aside_and_its_neighbours_are_written(
    store: UsageStore,
) -> None:
    batch = [a_record() for _ in range(9)]
    batch.insert(4, poison())

    assert await store.write(batch) == Written(new=9, quarantined=1)
    assert await store.write(batch) == Written(known=9, quarantined=1)


async def test_nothing_to_write_is_fine(store: UsageStore) -> None:
    await store.quarantine([])

    assert await store.write([]) == Written()


class TestInPostgres:
    async def test_a_row_holds_what_its_record_says(self, ledger: asyncpg.Pool) -> None:
        usual = {
            **dict.fromkeys(ACCESS_LOG_ATTRIBUTES, "-"),
            "start": "1795339815.000001",
            "status": "404",
            "duration_ms": "12",
            "bytes_received": "0",
            "bytes_sent": "211",
            "user_id": "ädä",
            "path": '/a/"b"',
            "limits": "60;59;07;a|10;9;8;b",
            "service": "core",
        }
        bodies = [
            LOG_SEPARATOR.join((usual | {"id": str(uuid4()), **change}).values())
            for change in ({}, {"upstream_ms": "7"}, {"user_id": "-"}, {"ai": "true"})
        ]
        names = ",".join(ACCESS_LOG_ATTRIBUTES)
        payload = a_request(*((one, {}) for one in bodies), fields=names)
        intake = Intake(PricesInForce(FakeClock(), 0), region="eu", version="1")
        items = intake.read(
            Entry(Kind.OTLP, 0.0, payload.SerializeToString(), Position(1, 0))
        )
        records: list[Record] = [
            *(one for one in items if isinstance(one, PlainRecord)),
            a_record(usage=Usage(UsageSource.PROVIDER, 5, 3, 2, 1, 0), model="m"),
            a_record(bytes_sent=2**63 - 1, duration_ms=2**31 - 1, route="r", role="x"),
        ]
        assert len(records) == 6

        assert await a_store(ledger).write(records) == Written(new=6)

        found = await ledger.fetch(f"SELECT {', '.join(COLUMNS)} FROM usage_logs")
        by_id = {row["id"]: [*row.values()] for row in found}
        for record in records:
            said, kept = [*record.whole().row()], by_id[UUID(int=record.id)]
            assert json.loads(kept.pop()) == json.loads(said.pop())
            assert kept == said

    async def test_two_sinks_with_the_same_batch_write_one_row_each(
        self, ledger: asyncpg.Pool
    ) -> None:
        batch = [a_record() for _ in range(500)]
        one, other = a_store(ledger), a_store(ledger)

        results = await asyncio.gather(
            *(sink.write(batch) for sink in (one, other) * 5)
        )

        assert sum(result.new for result in results) == 500
        assert await ledger.fetchval("SELECT count(*) FROM usage_logs") == 500

    async def test_what_is_sent_again_and_again_leaves_nothing_behind(
        self, ledger: asyncpg.Pool
    ) -> None:
        store, batch = a_store(ledger), [a_record() for _ in range(200)]

        async def size() -> int:
            return int(
                await ledger.fetchval(
                    "SELECT sum(pg_relation_size(relid)) "
                    "FROM pg_partition_tree('usage_logs') WHERE isleaf"
                )
            )

        await store.write(batch)
        of_one = await size()
        for _ in range(20):
            assert await store.write(batch) == Written(known=200)

        # One of them was written in vain: then it was known that they are there.
        assert await size() <= 2 * of_one
        assert await store.write([a_record()]) == Written(new=1)

    async def test_batches_that_are_sent_together_are_sealed_one_after_the_other(
        self, ledger: asyncpg.Pool
    ) -> None:
        store = a_store(ledger)
        batches = [[a_record() for _ in range(200)] for _ in range(6)]

        await asyncio.gather(*map(store.write, batches))

        seals = await ledger.fetch(
            "SELECT seal, rows, head, previous FROM usage_seals ORDER BY seal"
        )
        assert [(row["seal"], row["rows"]) for row in seals] == [
            (seal, 200) for seal in range(1, 7)
        ]
        heads = [row["head"] for row in seals]
        assert [row["previous"] for row in seals][1:] == heads[:-1]

    async def test_a_row_holds_what_the_record_says(self, ledger: asyncpg.Pool) -> None:
        usage = Usage(UsageSource.PROVIDER, 124, 101, 23, 64)
        record = a_record(service="openai", model="gpt-4o", usage=usage, is_ai=True)

        await a_store(ledger).write([record])

        row = await ledger.fetchrow("SELECT * FROM usage_logs")
        assert row is not None
        assert row["id"] == record.event.id
        assert row["created_at"] == START
        assert (row["tokens"], row["input_tokens"], row["cached_tokens"]) == (
            *(124, 101),
            64,
        )
        assert (row["pricing"], row["price_version"]) == ("unpriced", "none")
        assert json.loads(row["metadata"])["system"]["instanceId"] == "node-1"
        assert row["recorded_at"] is not None

    async def test_the_poison_is_kept_once_with_its_reason(
        self, ledger: asyncpg.Pool
    ) -> None:
        store = a_store(ledger)

        for _ in range(3):
            await store.write([a_record(), poison(), a_record()])

        (row,) = await ledger.fetch("SELECT * FROM usage_quarantine")
        assert "usage_logs_status_is_http" in row["reason"]
        assert json.loads(row["attributes"])["id"] == str(POISON)

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"status": 10**9}, id="out of a column's range"),
            pytest.param({"service": None}, id="a null"),
            pytest.param({"service": 7}, id="another type"),
            pytest.param({"route": "a\x00b"}, id="a NUL"),
            pytest.param({"route": "\ud800"}, id="a lone surrogate"),
        ],
    )
    async def test_any_refused_record_is_set_aside(
        self, ledger: asyncpg.Pool, changes: dict[str, Any]
    ) -> None:
        batch = [a_record(), a_record(**changes), a_record()]

        written = await a_store(ledger).write(batch)

        assert written == Written(new=2, quarantined=1)

    async def test_a_misfit_is_kept_bounded_and_once(
        self, ledger: asyncpg.Pool
    ) -> None:
        misfit = Misfit("id is not a UUID", {"id": "x" * 5000, "path": "/\x00\ud800"})

        for _ in range(2):
            await a_store(ledger).quarantine([misfit])

        (row,) = await ledger.fetch("SELECT * FROM usage_quarantine")
        assert json.loads(row["attributes"]) == {"id": "x" * 1024, "path": "/"}

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE usage_logs SET credits = 0",
            "DELETE FROM usage_logs",
            "TRUNCATE usage_logs",
            "UPDATE usage_logs_20261122 SET credits = 0",
            "DELETE FROM usage_logs_20261122",
            "TRUNCATE usage_logs_20261122",
            "TRUNCATE usage_logs_default",
            "DELETE FROM usage_logs WHERE false",
        ],
    )
    async def test_the_database_itself_refuses_to_change_a_row(
        self, ledger: asyncpg.Pool, statement: str
    ) -> None:
        await a_store(ledger).write([a_record()])

        with pytest.raises(asyncpg.RestrictViolationError, match="written once"):
            await ledger.execute(statement)

        assert await ledger.fetchval("SELECT count(*) FROM usage_logs") == 1

    async def test_a_whole_day_can_be_dropped(self, ledger: asyncpg.Pool) -> None:
        await a_store(ledger).write([a_record()])

        await ledger.execute("DROP TABLE usage_logs_20261122")

        assert await ledger.fetchval("SELECT count(*) FROM usage_logs") == 0

    async def test_a_lost_connection_is_told_apart_from_bad_data(
        self, ledger: asyncpg.Pool
    ) -> None:
        await ledger.close()

        with pytest.raises(LedgerUnavailable):
            await a_store(ledger).write([a_record()])

    async def test_the_migrations_make_what_the_schema_says(
        self, migrated_url: str, ledger: asyncpg.Pool
    ) -> None:
        def differences(connection: Connection) -> list[Any]:
            options = {
                "version_table": version_table("usage_sink"),
                "compare_server_default": True,
                "include_name": lambda name, kind, _: (
                    kind != "table" or name in metadata.tables
                ),
            }
            context = MigrationContext.configure(connection, opts=options)
            return list(compare_metadata(context, metadata))

        url = migrated_url.replace("postgresql:", "postgresql+asyncpg:")
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
        await engine.dispose()

    async def test_the_migrations_can_run_again_and_by_many_at_once(
        self, fresh_database_url: str
    ) -> None:
        await asyncio.gather(
            *(migrate(fresh_database_url, package="usage_sink") for _ in range(3))
        )
        await migrate(fresh_database_url, package="usage_sink")


class TestPartitions:
    async def test_days_are_made_ahead_and_once(self, ledger: asyncpg.Pool) -> None:
        made = await asyncio.gather(
            *(make_partitions(ledger, START.timestamp(), 7) for _ in range(3))
        )

        assert sum(made) == 6  # the fixture made three of nine
        assert await make_partitions(ledger, START.timestamp(), 7) == 0

    async def test_a_row_goes_to_the_partition_of_its_utc_day(
        self, ledger: asyncpg.Pool
    ) -> None:
        midnight = datetime(2026, 11, 23, tzinfo=UTC)
        batch = [
            a_record(created_at=START),
            a_record(created_at=midnight),
            a_record(created_at=datetime(2031, 1, 1, tzinfo=UTC)),
        ]

        await a_store(ledger).write(batch)

        rows = await ledger.fetch(
            "SELECT tableoid::regclass::text FROM usage_logs ORDER BY created_at"
        )
        assert [row[0] for row in rows] == [
            "usage_logs_20261122",
            "usage_logs_20261123",
            "usage_logs_default",
        ]

    async def test_a_day_whose_rows_are_in_the_default_one_stays_there(
        self, ledger: asyncpg.Pool
    ) -> None:
        late = datetime(2026, 11, 26, tzinfo=UTC)
        await a_store(ledger).write([a_record(created_at=late)])

        made = await make_partitions(ledger, START.timestamp(), 7)

        assert made == 5
        assert await ledger.fetchval("SELECT count(*) FROM usage_logs_default") == 1

    async def test_after_midnight_the_next_day_is_made(
        self, ledger: asyncpg.Pool
    ) -> None:
        clock = FakeClock(datetime(2026, 11, 22, 23, 59, 59, 990_000, UTC).timestamp())
        stop = asyncio.Event()
        keeping = asyncio.create_task(keep_partitions(ledger, clock, 1, stop))
        await asyncio.sleep(0)  # one turn: it has read the clock
        clock.advance(0.02)

        async with asyncio.timeout(5):
            while not await ledger.fetchval("SELECT to_regclass($1)", NEXT_DAY):
                await asyncio.sleep(0.01)

        stop.set()
        await keeping

    async def test_a_database_that_is_away_does_not_end_the_keeping(
        self, ledger: asyncpg.Pool
    ) -> None:
        clock = FakeClock(datetime(2026, 11, 22, 23, 59, 59, 999_000, UTC).timestamp())
        stop = asyncio.Event()
        await ledger.close()
        keeping = asyncio.create_task(keep_partitions(ledger, clock, 1, stop))

        done, _ = await asyncio.wait({keeping}, timeout=0.05)
        assert not done

        stop.set()
        await keeping
