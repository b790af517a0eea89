"""From spools to rows: however often a batch comes, and whichever sink gets it."""

import asyncio
from pathlib import Path

import asyncpg

from runtime.clock import SystemClock
from runtime.metrics import Metrics
from tests.builders_ledger import a_ledger
from usage_sink.batches import BatchLimits
from usage_sink.chain import Chain
from usage_sink.intake import Intake
from usage_sink.loader import Loader
from usage_sink.otlp import entries
from usage_sink.pricing import PricesInForce
from usage_sink.segments import Kind
from usage_sink.spool import Bounds, Spool
from usage_sink.store_postgres import PostgresUsageStore
from usage_sink.verify import verify

#: As the real Envoy sent it.
EXPORT = Path(__file__).with_name("envoy_export.bin").read_bytes()
TIMES = 500


async def a_sink(folder: Path, name: str, pool: asyncpg.Pool, metrics: Metrics) -> None:
    """Take the batch in so many times, load all of it, end."""
    clock = SystemClock()
    spool = Spool(folder / name, Bounds(), clock, metrics)
    prices = PricesInForce(clock, 0)
    intake = Intake(prices, region="local", version="1")
    loader = Loader(spool, intake, BatchLimits(50, 0.0), clock, metrics)
    loading = asyncio.create_task(
        loader.run(PostgresUsageStore(pool, Chain(name, "node-1")))
    )
    await asyncio.gather(*(spool.append(Kind.OTLP, EXPORT) for _ in range(TIMES)))
    loader.close()
    await loading
    await spool.close()


async def test_one_batch_a_thousand_times_over_two_sinks_is_one_row_each(
    migrated_url: str, tmp_path: Path
) -> None:
    ids = {entry["id"] for _, entry in entries(EXPORT)}
    metrics = Metrics()
    async with a_ledger(migrated_url) as pool:
        await asyncio.gather(
            *(a_sink(tmp_path, name, pool, metrics) for name in ("one", "other"))
        )
        rows = await pool.fetch("SELECT id::text FROM usage_logs")
        summed = await pool.fetchval("SELECT sum(requests) FROM usage_hourly")
    report = await verify(migrated_url, None)

    assert len(ids) > 1
    assert sorted(row["id"] for row in rows) == sorted(ids)
    assert summed == len(ids)
    known = metrics.value("hubgate_usage_records_total", result="known")
    assert known == (2 * TIMES - 1) * len(ids)
    assert report.is_good
