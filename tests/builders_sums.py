"""Rows of twelve days in a ledger whose sums are partly made: for tests of answers."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

import asyncpg
from hypothesis import strategies as st

from control.usage_totals import MemoryTotals
from runtime.contracts import UsageSource
from tests.builders_ledger import a_record, a_store
from usage_sink.adjustments import Adjustment
from usage_sink.compaction import compact
from usage_sink.events import Usage
from usage_sink.records import COLUMNS

#: Berlin's clocks go back on 25 October 2026.
FIRST: Final = datetime(2026, 10, 24, 20, 10, tzinfo=UTC)
DAYS: Final = 12
LAST: Final = FIRST + timedelta(days=DAYS)
USERS: Final = (None, "u-1", "u-2", "u-3", "u-4", "u-5")


def records() -> list[Any]:
    random = Random(5)  # noqa: S311 - the same rows each time
    made = []
    for number in range(900):
        at = FIRST + timedelta(seconds=random.random() * DAYS * 86_400)
        model = random.choice((None, "m-1", "m-2"))
        usage = Usage(UsageSource.PROVIDER, random.randrange(500), random.randrange(90))
        record = a_record(
            UUID(int=number + 1),
            created_at=at.replace(microsecond=number),
            user_id=random.choice(USERS),
            service=random.choice(("openai", "core")),
            model=model,
            route=random.choice((None, "r-1", "r-2")),
            status=random.choice((0, 200, 200, 200, 404, 503)),
            duration_ms=random.choice((0, 1, 7, 480, 70_000)),
            usage=usage,
        )
        charge = replace(record.charge, credits=random.randrange(9))
        made.append(replace(record, charge=charge))
    return made


RECORDS: Final = records()
ADJUSTMENTS: Final = [
    Adjustment(
        usage_id=one.event.id,
        usage_created_at=one.event.created_at,
        tokens=at - 9,
        credits=5 - at,
        price_version="2",
        reason="test",
        author="test",
    )
    for at, one in enumerate(RECORDS[::50])
]


async def fill(url: str) -> None:
    """A migrated database: most days are summed, some stale, some corrected late."""
    async with asyncpg.create_pool(url) as pool:
        store = a_store(pool)
        await store.write(RECORDS[:-40])
        await compact(pool, LAST.timestamp())
        # These come late: their days are stale, the others are summed.
        late = sorted(RECORDS[-40:], key=lambda one: one.event.created_at)
        await store.write(late[:3])
        await compact(pool, (FIRST + timedelta(days=3)).timestamp())
        await store.write(late[3:])
        await store.adjust(ADJUSTMENTS[:9])
        await compact(pool, (FIRST + timedelta(days=8)).timestamp())
        await store.adjust(ADJUSTMENTS[9:])


def twin() -> MemoryTotals:
    rows: list[Mapping[str, Any]] = [
        {**dict(zip(COLUMNS, one.row(), strict=True)), "id": one.event.id}
        for one in RECORDS
    ]
    return MemoryTotals(
        rows, [(one.usage_id, one.tokens, one.credits) for one in ADJUSTMENTS]
    )


def instants() -> st.SearchStrategy[datetime]:
    span = (LAST - FIRST) // timedelta(seconds=1)
    whole = st.integers(-30, span // 3600 + 30).map(
        lambda at: FIRST.replace(minute=0) + timedelta(hours=at)
    )
    fine = st.integers(-9999, span + 9999).map(lambda at: FIRST + timedelta(seconds=at))
    days = st.integers(0, DAYS + 2).map(
        lambda at: datetime(2026, 10, 24, tzinfo=UTC) + timedelta(days=at)
    )
    return st.one_of(whole, fine, days)
