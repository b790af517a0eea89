"""Totals of logs are those of their rows, whether rows or sums are read."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control.database import Database
from control.usage import TOTALS, Statuses, Totals, UsageFilter
from control.usage_plan import instant
from control.usage_postgres import PostgresUsageQueries
from runtime.clock import SystemClock
from runtime.contracts import Outcome
from tests.builders_sums import fill, instants


@pytest.fixture
async def url(migrated_url: str) -> str:
    await fill(migrated_url)
    return migrated_url


@pytest.fixture
async def queries(url: str) -> AsyncIterator[PostgresUsageQueries]:
    database = Database(url, 5.0, SystemClock())
    assert await database.connect(asyncio.Event())
    yield PostgresUsageQueries(database)
    await database.close()


@pytest.mark.integration
async def test_totals_of_logs_are_the_same_from_sums_as_from_rows(
    queries: PostgresUsageQueries,
) -> None:
    loop = asyncio.get_running_loop()
    instants_ = st.none() | instants()

    @settings(
        max_examples=50,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(
        chosen=st.builds(
            UsageFilter,
            user_id=st.sampled_from((None, None, "u-1", "nobody")),
            user_ids=st.sampled_from((None, None, frozenset({"u-1", "u-2"}))),
            service=st.sampled_from((None, "core")),
            model=st.sampled_from((None, "m-1")),
            statuses=st.sampled_from((None, "2xx", "404", "5xx")).map(
                lambda text: text and Statuses.parse(text)
            ),
            start=instants_,
            end=instants_,
        )
    )
    def check(chosen: UsageFilter) -> None:
        def ask(one: UsageFilter) -> Totals:
            found = queries.totals(one)
            return asyncio.run_coroutine_threadsafe(found, loop).result(30)

        # Of each outcome apart: the sums don't know it, so the rows are read.
        parts = [ask(replace(chosen, outcome=one)) for one in Outcome]
        assert ask(chosen) == Totals(
            **{name: sum(getattr(one, name) for one in parts) for name in TOTALS}
        )

    await asyncio.to_thread(check)


@pytest.mark.integration
async def test_totals_of_logs_are_without_archived_days(
    queries: PostgresUsageQueries, url: str
) -> None:
    gone = [date(2026, 10, 25), date(2026, 10, 27), date(2026, 10, 28)]

    before = await queries.totals(UsageFilter())
    async with asyncpg.create_pool(url) as pool:
        days = [
            await queries.totals(
                UsageFilter(start=instant(day), end=instant(day + timedelta(days=1)))
            )
            for day in gone
        ]
        await pool.executemany(
            "INSERT INTO usage_archives (day, file, rows, tokens, credits, sha256, "
            "dropped_at) VALUES ($1, 'f', 1, 1, 1, 's', now())",
            [(day,) for day in gone],
        )
    after = await queries.totals(UsageFilter())

    assert after.archived_days == len(gone)
    assert after.requests == before.requests - sum(one.requests for one in days)
    assert all(one.requests for one in days)
