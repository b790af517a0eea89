"""Pages of logs, at any depth, and raw SQL with OFFSET beside them."""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from time import perf_counter
from typing import Final
from uuid import UUID

import asyncpg

from bench.questions import HEAVIEST, LAST
from control.database import Database
from control.usage import Cursor, Sort, Statuses, UsageFilter, UsageQuery
from control.usage_postgres import PostgresUsageQueries
from runtime.contracts import Outcome

_LIMIT: Final = 50
_PAGES: Final = 20
_FAILED: Final = Statuses(500, 599)
_LIGHT: Final = "user-9000"


@dataclass(frozen=True, slots=True)
class Timed:
    """Milliseconds of each page; `first_ms` of the first of all."""

    name: str
    first_ms: float
    pages_ms: tuple[float, ...]


def filters(days: int) -> dict[str, UsageFilter]:
    """`model-0` is claude's in no row: openai has it, core-service has no model."""
    begin = datetime.combine(LAST - timedelta(days=days - 1), time(), UTC)
    week = begin + timedelta(days=days // 2)
    return {
        "none": UsageFilter(),
        "a heavy user": UsageFilter(user_id=HEAVIEST),
        "a light user": UsageFilter(user_id=_LIGHT),
        "nobody": UsageFilter(user_id="nobody"),
        "service": UsageFilter(service="openai"),
        "model": UsageFilter(model="model-39"),
        "status 2xx": UsageFilter(statuses=Statuses(200, 299)),
        "status 5xx": UsageFilter(statuses=_FAILED),
        "status 3xx: no row": UsageFilter(statuses=Statuses(300, 399)),
        "outcome": UsageFilter(outcome=Outcome.UPSTREAM_ERROR),
        "heavy user, service": UsageFilter(user_id=HEAVIEST, service="sora2"),
        "heavy user, model": UsageFilter(user_id=HEAVIEST, model="model-39"),
        "heavy user, 5xx": UsageFilter(user_id=HEAVIEST, statuses=_FAILED),
        "light user, 5xx": UsageFilter(user_id=_LIGHT, statuses=_FAILED),
        "service, 5xx": UsageFilter(service="sora2", statuses=_FAILED),
        "model, 5xx": UsageFilter(model="model-39", statuses=_FAILED),
        "service, model": UsageFilter(service="openai", model="model-0"),
        "service, model: no row": UsageFilter(service="core-service", model="model-0"),
        "heavy user, model: no row": UsageFilter(user_id=HEAVIEST, model="model-1"),
        "heavy user, service, model: no row": UsageFilter(
            user_id=HEAVIEST, service="core-service", model="model-0"
        ),
        "several users": UsageFilter(user_ids=frozenset({HEAVIEST, _LIGHT, "user-17"})),
        "several light users": UsageFilter(user_ids=frozenset({_LIGHT, "user-9001"})),
        "a week": UsageFilter(start=week, end=week + timedelta(days=7)),
        "a week, user, service": UsageFilter(
            user_id=HEAVIEST,
            service="sora2",
            start=week,
            end=week + timedelta(days=7),
        ),
    }


def _cursors(chosen: UsageFilter, days: int, depth: float) -> Iterator[Cursor | None]:
    """Places about there: 0 is the oldest row, 1 the newest."""
    begin = chosen.start or datetime.combine(
        LAST - timedelta(days=days - 1), time(), UTC
    )
    end = chosen.end or datetime.combine(LAST + timedelta(days=1), time(), UTC)
    for number in range(_PAGES):
        into = (end - begin) * (depth * 0.96 + 0.02 + 0.02 * number / _PAGES)
        yield Cursor(begin + into, UUID(int=number << 100))


async def timed(database: Database, days: int, only: str) -> AsyncIterator[Timed]:
    """Each filter in both orders: first pages, and some from three depths."""
    queries = PostgresUsageQueries(database)
    for name, chosen in filters(days).items():
        if not re.search(only, name):
            continue
        for sort in Sort:
            took = []
            places: list[Cursor | None] = [None] * _PAGES
            for depth in (0.0, 0.5, 1.0):
                places += _cursors(chosen, days, depth)
            for place in places:
                query = UsageQuery(chosen=chosen, limit=_LIMIT, cursor=place, sort=sort)
                began = perf_counter()
                await queries.find(query)
                took.append((perf_counter() - began) * 1000)
            yield Timed(f"{name} ({sort})", took[0], tuple(took[1:]))


async def by_offset(url: str, rows: int) -> float:
    """The same as SQL with OFFSET, in the middle of the ledger."""
    connection = await asyncpg.connect(url, command_timeout=600)
    try:
        began = perf_counter()
        await connection.fetch(
            "SELECT * FROM usage_logs WHERE service = 'openai' "
            "ORDER BY created_at DESC, id DESC LIMIT $1 OFFSET $2",
            *(_LIMIT, rows // 20),
        )
        return (perf_counter() - began) * 1000
    finally:
        await connection.close()
