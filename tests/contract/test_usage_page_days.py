"""Pages are the same when sums of closed days say where their rows are."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control.database import Database
from control.store import MemoryUsageQueries
from control.usage import COLUMNS, Cursor, Sort, Statuses, UsageFilter, UsageQuery
from control.usage_postgres import PostgresUsageQueries
from runtime.clock import SystemClock
from tests.builders_sums import fill, instants

_GONE = date(2026, 10, 27)


@pytest.fixture
async def url(migrated_url: str) -> str:
    """A ledger with days that are closed, stale, archived, and with none of that."""
    await fill(migrated_url)
    async with asyncpg.create_pool(migrated_url) as pool:
        await pool.execute(
            "INSERT INTO usage_archives (day, file, rows, tokens, credits, sha256, "
            "dropped_at) VALUES ($1, 'f', 1, 1, 1, 's', now())",
            _GONE,
        )
        await pool.execute(f"DROP TABLE usage_logs_{_GONE:%Y%m%d}")
    return migrated_url


@pytest.fixture
async def queries(url: str) -> AsyncIterator[PostgresUsageQueries]:
    database = Database(url, 5.0, SystemClock())
    assert await database.connect(asyncio.Event())
    yield PostgresUsageQueries(database)
    await database.close()


async def pages(queries: Any, query: UsageQuery) -> list[Any]:
    """The ids of all of them."""
    found = list[Any]()
    while True:
        rows = await queries.find(query)
        found += [row["id"] for row in rows[: query.limit]]
        if len(rows) <= query.limit:
            return found
        last = rows[query.limit - 1]
        query = replace(query, cursor=Cursor(last["created_at"], last["id"]))


@pytest.mark.integration
async def test_all_pages_of_two_filters_are_what_the_rules_say(
    queries: PostgresUsageQueries,
) -> None:
    loop = asyncio.get_running_loop()
    everything = UsageQuery(limit=100_000, columns=COLUMNS)
    twin = MemoryUsageQueries([dict(row) for row in await queries.find(everything)])
    instants_ = st.none() | instants()

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(
        chosen=st.builds(
            UsageFilter,
            user_id=st.sampled_from((None, "u-1", "nobody")),
            service=st.sampled_from((None, "core", "none")),
            model=st.sampled_from((None, "m-1")),
            statuses=st.sampled_from((None, "2xx", "404", "5xx")).map(
                lambda text: text and Statuses.parse(text)
            ),
            start=instants_,
            end=instants_,
        ),
        sort=st.sampled_from(Sort),
        limit=st.integers(20, 200),
    )
    def check(chosen: UsageFilter, sort: Sort, limit: int) -> None:
        query = UsageQuery(chosen=chosen, sort=sort, limit=limit)

        async def both() -> tuple[list[Any], list[Any]]:
            return await pages(queries, query), await pages(twin, query)

        found, expected = asyncio.run_coroutine_threadsafe(both(), loop).result(30)
        assert found == expected

    await asyncio.to_thread(check)
