"""Pages and exports of a ledger to which rows arrive all the time; random filters."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control.database import Database
from control.store import MemoryUsageQueries
from control.usage import COLUMNS, Cursor, Sort, Statuses, UsageFilter, UsageQuery
from control.usage_postgres import PostgresUsageQueries
from runtime.clock import SystemClock
from runtime.contracts import Outcome, UsageSource
from tests.builders_ledger import START, a_ledger, a_record, a_store
from usage_sink.records import UsageRecord
from usage_sink.tokens import Usage

pytestmark = pytest.mark.integration

_USERS = ("u-1", "u-2", "u-3")
_SERVICES = ("openai", "claude")
_STATUSES = (200, 404, 429, 502)


def a_row(number: int) -> UsageRecord:
    """Many share an instant, so that the id decides."""
    return a_record(
        UUID(int=number * 7919 % 100_003),
        created_at=START + timedelta(seconds=number // 5),
        user_id=_USERS[number % 3],
        service=_SERVICES[number % 2],
        model=None if number % 5 else "m",
        status=_STATUSES[number % 4],
        outcome=list(Outcome)[number % len(Outcome)],
        usage=Usage(UsageSource.PROVIDER, total=number),
    )


@pytest.fixture
async def pool(migrated_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with a_ledger(migrated_url) as pool:
        yield pool


@pytest.fixture
async def database(
    migrated_url: str,
    pool: asyncpg.Pool,  # noqa: ARG001 - it makes the tables
) -> AsyncIterator[Database]:
    database = Database(migrated_url, 5.0, SystemClock())
    assert await database.connect(asyncio.Event())
    yield database
    await database.close()


async def at_once() -> None:
    """Wait for nothing."""


async def pages(
    queries: Any,
    query: UsageQuery,
    before_each: Callable[[], Awaitable[None]] = at_once,
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        await before_each()
        rows = await queries.find(query)
        found += rows[: query.limit]
        if len(rows) <= query.limit:
            return found
        last = found[-1]
        query = replace(query, cursor=Cursor(last["created_at"], last["id"]))


_INSTANTS = st.integers(-1, 25).map(lambda n: START + timedelta(seconds=n))
_FILTERS = st.builds(
    UsageFilter,
    user_id=st.none() | st.sampled_from((*_USERS, "nobody")),
    user_ids=st.none() | st.frozensets(st.sampled_from(_USERS)),
    service=st.none() | st.sampled_from(_SERVICES),
    model=st.none() | st.just("m"),
    statuses=st.none()
    | st.sampled_from(("4xx", "404", "5xx", "599")).map(Statuses.parse),
    outcome=st.none() | st.sampled_from(Outcome),
    start=st.none() | _INSTANTS,
    end=st.none() | _INSTANTS,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(chosen=_FILTERS, sort=st.sampled_from(Sort), limit=st.integers(1, 50))
def test_sum_of_pages_is_the_total_is_what_the_rules_say(
    loop_of_ledger: "Ledger", chosen: UsageFilter, sort: Sort, limit: int
) -> None:
    query = UsageQuery(chosen=chosen, sort=sort, limit=limit)
    found, totals, expected, sums = loop_of_ledger.ask(query)

    assert [row["id"] for row in found] == [row["id"] for row in expected]
    assert totals == sums
    assert totals.requests == len(found)
    assert totals.tokens == sum(row["tokens"] for row in found)


class Ledger:
    """A hundred rows in PostgreSQL and in the twin, for tests without a loop."""

    def __init__(
        self,
        runner: asyncio.Runner,
        queries: PostgresUsageQueries,
        twin: MemoryUsageQueries,
    ) -> None:
        self._runner = runner
        self._queries = queries
        self._twin = twin

    def ask(self, query: UsageQuery) -> Any:
        async def both() -> Any:
            return (
                await pages(self._queries, query),
                await self._queries.totals(query.chosen),
                await pages(self._twin, query),
                await self._twin.totals(query.chosen),
            )

        return self._runner.run(both())


@pytest.fixture
def loop_of_ledger(database_url: str, migrated_template: str) -> Any:
    name = f"test_{uuid4().hex}"
    url = database_url.partition("?")[0].rpartition("/")[0] + f"/{name}"

    async def on_server(statement: str) -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute(statement)
        await connection.close()

    async def filled() -> tuple[Database, list[dict[str, Any]]]:
        async with a_ledger(url) as pool:
            await a_store(pool).write([a_row(number) for number in range(100)])
        database = Database(url, 5.0, SystemClock())
        assert await database.connect(asyncio.Event())
        everything = UsageQuery(limit=1000, columns=COLUMNS)
        found = await PostgresUsageQueries(database).find(everything)
        return database, [dict(row) for row in found]

    with asyncio.Runner() as runner:
        copied = f'CREATE DATABASE "{name}" TEMPLATE "{migrated_template}"'
        runner.run(on_server(copied))
        database, rows = runner.run(filled())
        yield Ledger(runner, PostgresUsageQueries(database), MemoryUsageQueries(rows))
        runner.run(database.close())
        runner.run(on_server(f'DROP DATABASE "{name}" WITH (FORCE)'))


class Arrivals:
    """Rows that come at 500 a second, newer, older and between those of before."""

    PER_S: Final = 500
    _AT_ONCE: Final = 25

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._store = a_store(pool)
        self._came = asyncio.Condition()
        self.rows = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            instants = [
                START + timedelta(seconds=number % 120 - 10)
                for number in range(self.rows, self.rows + self._AT_ONCE)
            ]
            await self._store.write([a_record(created_at=one) for one in instants])
            self.rows += self._AT_ONCE
            async with self._came:
                self._came.notify_all()
            await asyncio.sleep(began + self.rows / self.PER_S - loop.time())

    async def more(self) -> None:
        async with asyncio.timeout(5), self._came:
            await self._came.wait()


@pytest.mark.parametrize("sort", Sort)
async def test_a_cursor_misses_and_repeats_nothing_while_500_rows_a_second_arrive(
    database: Database, pool: asyncpg.Pool, sort: Sort
) -> None:
    before = [a_row(number) for number in range(500)]
    await a_store(pool).write(before)
    arrivals = Arrivals(pool)
    began = asyncio.get_running_loop().time()
    arriving = asyncio.create_task(arrivals.run())
    try:
        found = await pages(
            PostgresUsageQueries(database),
            UsageQuery(limit=50, sort=sort),
            before_each=arrivals.more,
        )
    finally:
        arriving.cancel()
        await asyncio.gather(arriving, return_exceptions=True)
    took_s = asyncio.get_running_loop().time() - began
    ids = [row["id"] for row in found]
    places = [(row["created_at"], row["id"]) for row in found]

    assert {one.event.id for one in before} <= set(ids)
    assert len(ids) == len(set(ids))
    assert places == sorted(places, reverse=sort is Sort.NEWEST)
    assert len(before) / 2 <= arrivals.rows <= took_s * arrivals.PER_S + 25
