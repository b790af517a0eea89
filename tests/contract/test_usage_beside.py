"""What is asked beside a snapshot is of the same moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from control.database import MAX_CONNECTIONS, Database
from control.usage_totals import Cells, Snapshot
from control.usage_totals_postgres import PostgresTotals
from runtime.clock import SystemClock
from tests.builders_ledger import a_record, a_store
from tests.builders_sums import FIRST, LAST, RECORDS, fill

pytestmark = pytest.mark.integration


@pytest.fixture
async def totals(migrated_url: str) -> AsyncIterator[PostgresTotals]:
    await fill(migrated_url)
    database = Database(migrated_url, 5.0, SystemClock())
    assert await database.connect(asyncio.Event())
    yield PostgresTotals(database)
    await database.close()


async def requests(snapshot: Snapshot) -> int:
    (cell,) = (await snapshot.cells(Cells(start=FIRST, end=LAST))).cells
    return cell.sums[0]


async def test_a_row_that_comes_meanwhile_is_in_neither(
    totals: PostgresTotals, migrated_url: str
) -> None:
    async with totals.snapshot() as snapshot:
        before = await requests(snapshot)
        async with asyncpg.create_pool(migrated_url) as pool:
            await a_store(pool).write([a_record(created_at=FIRST)])
        async with snapshot.beside() as other:
            both = await asyncio.gather(requests(snapshot), requests(other))

    assert other is not snapshot
    assert (before, list(both)) == (len(RECORDS), [len(RECORDS)] * 2)


async def test_when_many_ask_all_are_answered_with_one_connection_each(
    totals: PostgresTotals,
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(MAX_CONNECTIONS - 1):
            await stack.enter_async_context(totals.snapshot())
        snapshot = await stack.enter_async_context(totals.snapshot())
        other = await stack.enter_async_context(snapshot.beside())
        both = await asyncio.gather(requests(snapshot), requests(other))

    assert other is snapshot
    assert list(both) == [len(RECORDS)] * 2
