"""How fast are answers about a ledger of ten million rows, and raw SQL beside them?

    python -m bench.queries --folder DIR [--rows 10000000] [--days 90]

DIR keeps a PostgreSQL cluster: filled and summed the first time (about half an hour
for ten million rows), used again after that. Each question is asked

- cold: the first time after the server was started, with no answer kept;
- warm: again, all of it computed again; the 95th percentile of ten;
- kept: again, as control does it, with the answer kept for as long as nothing changes;

and, where it says so, as SQL over the rows, once after a first time.
"""

import argparse
import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import asyncpg

from bench.generate import generate
from control import analytics, summary
from control.answer_cache import AnswerCache
from control.database import Database
from control.usage_totals import DIMENSIONS, Snapshot
from control.usage_totals_postgres import PostgresTotals
from local.engines import running_postgres
from runtime.clock import SystemClock
from runtime.migrations import migrate
from usage_sink.compaction import compact

LAST: Final = date(2026, 11, 20)
_NOW: Final = datetime(2026, 11, 21, 0, 30, tzinfo=UTC).timestamp()
_WARM, _KEPT = 10, 50

Ask = Callable[[Snapshot], Awaitable[dict[str, Any]]]

_RAW: Final = {
    "service,model": "SELECT service, model, count(*), sum(tokens), sum(credits) "
    "FROM usage_logs {where} GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 20",
    "userId,service": "SELECT user_id, service, count(*), sum(tokens), sum(credits) "
    "FROM usage_logs {where} GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 20",
    "service,day": "SELECT service, date_trunc('day', created_at, 'UTC'), count(*), "
    "sum(tokens), sum(credits) FROM usage_logs {where} GROUP BY 1, 2",
    "analytics": "SELECT service, route, count(*), percentile_disc("
    "ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY duration_ms) "
    "FROM usage_logs {where} GROUP BY 1, 2",
}


def questions(days: int) -> dict[str, tuple[Any, Ask]]:
    """Name -> what identifies the question, and how it is asked."""
    start = datetime.combine(LAST, datetime.min.time(), UTC) - timedelta(days=days - 1)
    range_ = {"startDate": start.isoformat(), "endDate": str(LAST)}
    found: dict[str, tuple[Any, Ask]] = {}

    def add_summary(name: str, **asked: str) -> None:
        query = summary.parse_query({**range_, **asked}, _NOW)
        found[name] = query, lambda one: summary.summarize(one, query, None)

    def add_analytics(name: str, users: frozenset[str] | None, **asked: str) -> None:
        query = analytics.parse_query({**range_, **asked}, _NOW)
        found[name] = (query, users), lambda one: analytics.analyse(one, query, users)

    for pair in itertools.combinations((*DIMENSIONS, "day"), 2):
        add_summary(",".join(pair), groupBy=",".join(pair))
    add_summary("day in Berlin", groupBy="service,day", timeZone="Europe/Berlin")
    add_summary("day in Kolkata", groupBy="day", timeZone="Asia/Kolkata")
    edges = (start + timedelta(minutes=17)).isoformat()
    add_summary("from 00:17", groupBy="service,model", startDate=edges)
    add_analytics("analytics", None)
    recent = str(LAST - timedelta(days=29))
    add_analytics("analytics, 30 days", None, startDate=recent)
    add_analytics("analytics of one user", frozenset({"user-17"}))
    return found


async def ask(
    totals: PostgresTotals, question: tuple[Any, Ask], cache: AnswerCache
) -> float:
    """Milliseconds until the answer is JSON."""
    key, asked = question
    query = key[0] if isinstance(key, tuple) else key
    first = query.first if hasattr(query, "first") else query.asked.start
    began = perf_counter()
    async with totals.snapshot() as snapshot:
        await snapshot.watermarks()
        state = await snapshot.state(first, query.asked.end)
        found = cache.get(key, state)
        if found is None:
            found = json.dumps(await asked(snapshot)).encode()
            cache.put(key, state, found)
    return (perf_counter() - began) * 1000


def percentile(values: list[float], share: float = 0.95) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def fill(folder: Path, rows: int, days: int) -> None:
    """Once."""
    async with running_postgres(folder / "pg") as url:
        await migrate(url, package="usage_sink")
        async with asyncpg.create_pool(url, command_timeout=3600) as pool:
            if not await pool.fetchval("SELECT EXISTS (SELECT FROM usage_hourly)"):
                await generate(url, rows, LAST, days)
            await compact(pool, _NOW)
            for table in ("usage_daily", "usage_monthly", "usage_tiers"):
                await pool.execute(f"VACUUM (ANALYZE) {table}")


@asynccontextmanager
async def served(folder: Path) -> Any:
    """A server just started, and control's way to it."""
    async with running_postgres(folder / "pg") as url:
        database = Database(url, 5.0, SystemClock(), query_timeout_s=60.0)
        await database.connect(asyncio.Event())
        try:
            yield PostgresTotals(database), url
        finally:
            await database.close()


async def raw(url: str, name: str, days: int) -> float | None:
    if name not in _RAW:
        return None
    first = LAST - timedelta(days=days - 1)
    text = _RAW[name].format(where=f"WHERE created_at >= '{first}Z'")
    connection = await asyncpg.connect(url, command_timeout=600)
    try:
        await connection.fetch(text)
        began = perf_counter()
        await connection.fetch(text)
        return (perf_counter() - began) * 1000
    finally:
        await connection.close()


async def run(folder: Path, rows: int, days: int) -> None:
    await fill(folder, rows, days)
    worst: dict[str, list[float]] = {"cold": [], "warm": [], "kept": []}
    print(f"{'question':24}{'cold':>9}{'warm p95':>10}{'kept p95':>10}{'SQL':>10}  ms")  # noqa: T201 - its output
    for name, question in questions(days).items():
        async with served(folder) as (totals, url):
            cold = await ask(totals, question, AnswerCache())
            warm = percentile(
                [await ask(totals, question, AnswerCache()) for _ in range(_WARM)]
            )
            cache = AnswerCache()
            await ask(totals, question, cache)
            kept = percentile(
                [await ask(totals, question, cache) for _ in range(_KEPT)]
            )
            sql = await raw(url, name, days)
        for kind, value in (("cold", cold), ("warm", warm), ("kept", kept)):
            worst[kind].append(value)
        beside = f"{sql:10.0f}" if sql is not None else ""
        print(f"{name:24}{cold:9.0f}{warm:10.0f}{kept:10.1f}{beside}", flush=True)  # noqa: T201
    print("largest: ", {kind: round(max(values)) for kind, values in worst.items()})  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=90)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(run(given.folder, given.rows, given.days))


if __name__ == "__main__":
    main()
