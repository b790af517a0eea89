"""How fast are answers about a ledger of ten million rows, and raw SQL beside them?

    python -m bench.queries --folder DIR [--parts sums,pages,exports] [--only REGEX]

DIR keeps a PostgreSQL cluster: filled and summed the first time (a quarter of an hour
for ten million rows), used again after that. `--only` takes those whose name matches.

`sums`: each question (`bench.questions`) is asked

- cold: the first time after the server was started (nothing in its buffers, every
  connection new; the machine's own file cache is as it is);
- warm: ten times again, all of it computed again, nothing kept: the largest;
- kept: again, as control does it, with the answer kept for as long as nothing changes;

and, where it says so, as SQL over the rows, once after a first time.

`pages`: of 50 rows, for each filter and order, 20 times the first page and 20 pages
each near the oldest row, the middle and the newest one, each page another one: the
first of all after the server was started, and the 95th percentile of the rest.

`exports`: 500,000 rows to Parquet and CSV, by the code that serves them; the first one
loads pyarrow, as in control.
"""

import argparse
import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Final

import asyncpg
from pydantic_core import to_json

from bench import pages
from bench.exports import exported
from bench.generate import generate
from bench.questions import LAST, NOW, Question, questions
from control.answer_cache import AnswerCache
from control.database import Database
from control.export import Format
from control.usage_totals_postgres import PostgresTotals
from local.engines import running_postgres
from runtime import lifecycle
from runtime.clock import SystemClock
from runtime.migrations import migrate
from usage_sink.compaction import compact

_WARM, _KEPT = 10, 50
_SUMS: Final = (
    *("usage_daily", "usage_monthly", "usage_daily_totals", "usage_monthly_totals"),
    *("usage_parts", "usage_user_parts", "usage_weekly", "usage_tiers"),
)


async def ask(totals: PostgresTotals, question: Question, cache: AnswerCache) -> float:
    """Milliseconds until the answer is JSON."""
    began = perf_counter()
    async with totals.snapshot() as snapshot:
        await snapshot.watermarks()
        state = await snapshot.state(question.first, question.end)
        found = cache.get(question.key, state)
        if found is None:
            found = to_json(await question.ask(snapshot))  # as control does
            cache.put(question.key, state, found)
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
            if await compact(pool, NOW):
                for table in _SUMS:
                    await pool.execute(f"VACUUM (ANALYZE) {table}")


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Database, str]]:
    """A server just started, and control's way to it."""
    async with running_postgres(folder / "pg") as url:
        database = Database(url, 5.0, SystemClock(), query_timeout_s=60.0)
        await database.connect(asyncio.Event())
        try:
            yield database, url
        finally:
            await database.close()


async def raw(url: str, text: str) -> float:
    connection = await asyncpg.connect(url, command_timeout=600)
    try:
        await connection.fetch(text)
        began = perf_counter()
        await connection.fetch(text)
        return (perf_counter() - began) * 1000
    finally:
        await connection.close()


async def run_sums(folder: Path, days: int, only: str) -> None:
    kinds: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    _say(f"{'question':34}{'cold':>8}{'warm':>8}{'kept':>8}{'SQL':>8}  ms")
    for question in questions(days):
        if not re.search(only, question.name):
            continue
        async with served(folder) as (database, url):
            totals = PostgresTotals(database)
            cold = await ask(totals, question, AnswerCache())
            warm = percentile(
                [await ask(totals, question, AnswerCache()) for _ in range(_WARM)]
            )
            cache = AnswerCache()
            await ask(totals, question, cache)
            kept = percentile(
                [await ask(totals, question, cache) for _ in range(_KEPT)]
            )
            beside = (
                "" if question.raw is None else f"{await raw(url, question.raw):8.0f}"
            )
        kinds[question.kind].append((cold, warm, kept))
        _say(f"{question.name:34}{cold:8.0f}{warm:8.0f}{kept:8.1f}{beside}")
    _say("\nfrom and to, of each kind:")
    for kind, values in kinds.items():
        spans = (
            f"{min(column):6.0f} to{max(column):5.0f}"
            for column in zip(*values, strict=True)
        )
        _say(f"{kind:38}{'  '.join(spans)}")


async def run_pages(folder: Path, rows: int, days: int, only: str) -> None:
    _say(f"{'page of 50 rows':48}{'first':>8}{'p95':>8}{'largest':>9}  ms")
    everything: list[float] = []
    async with served(folder) as (database, url):
        async for one in pages.timed(database, days, only):
            everything += one.pages_ms
            p95, most = percentile(list(one.pages_ms)), max(one.pages_ms)
            _say(f"{one.name:48}{one.first_ms:8.1f}{p95:8.1f}{most:9.1f}")
        _say(f"{'all together':48}{'':8}{percentile(everything):8.1f}")
        beside = await pages.by_offset(url, rows)
        _say(f"{'service, a twentieth deep, SQL with OFFSET':48}{'':8}{beside:8.1f}")


async def run_exports(folder: Path, rows: int, days: int) -> None:
    async with served(folder) as (database, url):
        for kind in (Format.PARQUET, Format.CSV):
            one = await exported(database, url, kind, rows // days)
            _say(
                f"{kind.value:8} {one.rows} rows, {one.bytes / 1e6:.0f} MB in "
                f"{one.seconds:.1f} s, memory + {one.grown_mb:.0f} MB; "
                f"COPY alone {one.copy_s:.1f} s"
            )


def _say(line: str) -> None:
    print(line, flush=True)


async def run(given: argparse.Namespace) -> None:
    folder, rows, days, only = given.folder, given.rows, given.days, given.only
    folder.mkdir(parents=True, exist_ok=True)
    await fill(folder, rows, days)
    parts = given.parts.split(",")
    if "sums" in parts:
        await run_sums(folder, days, only)
    if "pages" in parts:
        await run_pages(folder, rows, days, only)
    if "exports" in parts:
        await run_exports(folder, rows, days)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--parts", default="sums,pages,exports")
    parser.add_argument("--only", default="")
    lifecycle.collect_seldom()  # as control does
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
