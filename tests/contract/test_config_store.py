"""What every ConfigStore promises, over the twin and over PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from control.database import Database
from control.schema import metadata
from control.store import ConfigStore, MemoryConfigStore, Status, StoreUnavailable
from control.store_postgres import PostgresConfigStore
from runtime.clock import FakeClock, SystemClock
from runtime.postgres import version_table

DOCUMENT: dict[str, Any] = {"version": 1, "routes": [{"id": "ä", "timeout": "0s"}]}


@pytest.fixture
async def database(fresh_database_url: str) -> AsyncIterator[Database]:
    database = Database(fresh_database_url, 5.0, SystemClock())
    assert await database.connect(asyncio.Event())
    yield database
    await database.close()


@pytest.fixture(
    params=["memory", pytest.param("postgres", marks=pytest.mark.integration)]
)
def store(request: pytest.FixtureRequest) -> ConfigStore:
    if request.param == "memory":
        return MemoryConfigStore(FakeClock())
    return PostgresConfigStore(request.getfixturevalue("database"))


async def test_an_empty_history_has_nothing_active(store: ConfigStore) -> None:
    assert await store.active() is None
    assert await store.latest_by("file") is None


async def test_a_pending_revision_is_not_active(store: ConfigStore) -> None:
    added = await store.add(DOCUMENT, "admin", "why")

    assert (added.status, added.comment) == (Status.PENDING, "why")
    assert await store.active() is None
    assert await store.latest_by("admin") == added


async def test_the_newest_active_revision_is_in_force(store: ConfigStore) -> None:
    for number in range(3):
        added = await store.add({**DOCUMENT, "n": number}, "admin", "")
        await store.settle(added.rev, Status.ACTIVE)
    bad = await store.add({**DOCUMENT, "n": 9}, "admin", "")
    await store.settle(bad.rev, Status.REJECTED, "bad regex")
    active, latest = await store.active(), await store.latest_by("admin")

    assert active is not None
    assert active.document == {**DOCUMENT, "n": 2}
    assert latest is not None
    assert (latest.status, latest.reason) == (Status.REJECTED, "bad regex")


async def test_what_is_settled_stays_so(store: ConfigStore) -> None:
    added = await store.add(DOCUMENT, "admin", "")
    await store.settle(added.rev, Status.REJECTED, "no")
    await store.settle(added.rev, Status.ACTIVE)

    assert await store.active() is None


async def test_the_history_is_read_from_the_newest_on(store: ConfigStore) -> None:
    first, second, third = [
        await store.add({**DOCUMENT, "n": number}, "admin", "") for number in range(3)
    ]
    await store.settle(second.rev, Status.REJECTED, "no")
    latest = await store.history(before=third.rev + 1, limit=2)
    earlier = await store.history(before=second.rev, limit=2)

    assert [one.rev for one in latest] == [third.rev, second.rev]
    assert (latest[1].status, latest[1].reason) == (Status.REJECTED, "no")
    assert {str(one.document) for one in latest} == {"{}"}
    assert [one.rev for one in earlier] == [first.rev]


async def test_a_revision_is_found_by_its_number(store: ConfigStore) -> None:
    added = await store.add(DOCUMENT, "admin", "why")
    found = await store.revision(added.rev)

    assert found == added
    assert found is not None
    assert found.document == DOCUMENT
    assert await store.revision(added.rev + 1) is None


async def test_the_newest_revision_of_a_document_is_found_whoever_wrote_it(
    store: ConfigStore,
) -> None:
    await store.add(DOCUMENT, "file", "")
    added = await store.add(dict(reversed(DOCUMENT.items())), "admin", "")
    await store.add({**DOCUMENT, "n": 1}, "admin", "")

    assert await store.latest_of(DOCUMENT) == added
    assert await store.latest_of({**DOCUMENT, "n": 2}) is None


async def test_revisions_count_up(store: ConfigStore) -> None:
    first = await store.add(DOCUMENT, "file", "")
    second = await store.add(DOCUMENT, "admin", "")

    assert first.rev < second.rev
    assert await store.latest_by("file") == first


@pytest.mark.integration
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE config_revisions SET document = '{}'",
        "UPDATE config_revisions SET status = 'active'",
        "DELETE FROM config_revisions",
    ],
)
async def test_the_database_itself_keeps_the_history(
    database: Database, sql: str
) -> None:
    store = PostgresConfigStore(database)
    added = await store.add(DOCUMENT, "admin", "")
    await store.settle(added.rev, Status.REJECTED, "no")

    with pytest.raises(asyncpg.PostgresError, match="is a history"):
        await database.pool.execute(sql)


@pytest.mark.integration
async def test_a_database_that_was_never_there_is_unavailable() -> None:
    database = Database("postgresql://127.0.0.1:1/x", 1.0, SystemClock())
    with pytest.raises(StoreUnavailable):
        await PostgresConfigStore(database).active()


@pytest.mark.integration
async def test_connecting_ends_when_told_to() -> None:
    database = Database("postgresql://127.0.0.1:1/x", 1.0, SystemClock())
    stop = asyncio.Event()
    connecting = asyncio.create_task(database.connect(stop))
    stop.set()

    assert await connecting is False


@pytest.mark.integration
@pytest.mark.usefixtures("database")
async def test_the_schema_is_what_the_migrations_make(fresh_database_url: str) -> None:
    def differences(connection: Connection) -> Any:
        context = MigrationContext.configure(
            connection, opts={"version_table": version_table("control")}
        )
        return compare_metadata(context, metadata)

    url = fresh_database_url.replace("postgresql://", "postgresql+asyncpg://")
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await engine.dispose()
