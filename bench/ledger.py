"""How many access-log records a second become committed rows, and what that costs.

    python -m bench.ledger [--seconds 30] [--commit-ms 500]

First each stage alone, from the bytes of an OTLP batch to the commit; then the whole
path: `python -m usage_sink` as a process of its own, Envoy's batches sent to it by
gRPC as fast as the ledger keeps up with them, on an embedded PostgreSQL (durable, with
every index, trigger, rollup and seal). 100,000 rows are there before anything is
measured, and no two have the same start: small indexes full of equal keys would
flatter the figures. The rows are counted at the end. With `--commit-ms`, each commit
takes so much longer: for the sink's memory. Everything shares this machine's cores.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg

from bench.batches import BATCH, Traffic
from bench.sink import (
    BEHIND,
    BOOK,
    STORE_BATCH,
    Sink,
    a_sink,
    cpu_seconds,
    peak_mib,
    processes,
)
from local.engines import running_postgres
from runtime.clock import SystemClock
from runtime.migrations import migrate
from runtime.postgres import connect_pool
from usage_sink import otlp
from usage_sink.chain import Chain
from usage_sink.intake import Intake
from usage_sink.partitions import make_partitions
from usage_sink.pricing import PricesInForce
from usage_sink.records import UsageRecord
from usage_sink.segments import Entry, Kind, Position
from usage_sink.store_postgres import PostgresUsageStore

BEFORE = 100_000  # rows that are there before
ARRIVING = 20_000  # records/s, where commits are slow
_SLOW_COMMIT = """
CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON usage_seals
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow_commit();
"""


async def main(seconds: float, commit_ms: int) -> None:
    traffic = Traffic(SystemClock().now())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with running_postgres(folder / "postgres") as url:
            await migrate(url, package="usage_sink")
            pool = await connect_pool(
                url, max_size=3, command_timeout_s=30, connect_deadline_s=10
            )
            await make_partitions(pool, SystemClock().now(), 1)
            staged = await stages(pool, [traffic.export() for _ in range(400)])
            async with a_sink(folder, url) as sink:
                # Measured is the middle of a long run: it begins with the spool as
                # full as it stays.
                await sink.send(traffic, rows=BEFORE + BEHIND)
                await sink.has_committed(BEFORE)
                if commit_ms:
                    await sink.has_committed(sink.sent)
                    await pool.execute(_SLOW_COMMIT.format(seconds=commit_ms / 1000))
                postmaster = folder / "postgres" / "data" / "postmaster.pid"
                rate = ARRIVING if commit_ms else 0
                await whole_path(sink, traffic, seconds, rate, processes(postmaster))
                if commit_ms:
                    await pool.execute("DROP FUNCTION slow_commit CASCADE")
                await sink.has_committed(sink.sent)
            await check(pool, staged + sink.sent)
            await pool.close()


async def stages(pool: asyncpg.Pool, exports: list[bytes]) -> int:
    """Each stage alone."""
    rows = len(exports) * BATCH
    prices = PricesInForce(SystemClock(), 0)
    prices.accept(BOOK)
    intake = Intake(prices, region="local", version="bench")
    timed("decode", rows, lambda: [list(otlp.entries(one)) for one in exports])
    entries = [Entry(Kind.OTLP, 0.0, one, Position(1, 0)) for one in exports]
    records: list[UsageRecord] = [
        item
        for items in timed(
            "decode, map, price", rows, lambda: [list(intake.read(e)) for e in entries]
        )
        for item in items
    ]
    timed("make rows", rows, lambda: [record.row() for record in records])
    store = PostgresUsageStore(pool, Chain("bench", "bench"))
    for label in ("rows, COPY, INSERT, sums, seal", "the same again: a replay"):
        started = time.perf_counter()
        for at in range(0, len(records), STORE_BATCH):
            await store.write(records[at : at + STORE_BATCH])
        show(label, rows, time.perf_counter() - started)
    return rows


async def whole_path(
    sink: Sink,
    traffic: Traffic,
    seconds: float,
    rate: float,
    database: Callable[[], list[int]],
) -> None:
    """Bytes by gRPC to committed rows, and the processor time of each process."""
    await sink.look()
    started, committed = time.perf_counter(), sink.committed
    own, sink_cpu = time.process_time(), cpu_seconds([sink.process.pid])
    database_cpu = cpu_seconds(database())
    sent = sink.sent
    await sink.send(traffic, seconds=seconds, rate=rate)
    await sink.look()
    elapsed, rows = time.perf_counter() - started, sink.committed - committed
    show("answered: durable in the spool", sink.sent - sent, elapsed)
    show("whole path, gRPC to commit", rows, elapsed)
    for label, spent in (
        ("  of it the sender", time.process_time() - own),
        ("  of it the sink", cpu_seconds([sink.process.pid]) - sink_cpu),
        ("  of it PostgreSQL", cpu_seconds(database()) - database_cpu),
    ):
        sys.stdout.write(
            f"{label:<32}{spent / elapsed:>10.2f} cores     "
            f"{spent / rows * 1e6:>9.1f} us/record\n"
        )
    sys.stdout.write(f"memory of the sink, at most {peak_mib(sink.process.pid)} MiB\n")


async def check(pool: asyncpg.Pool, expected: int) -> None:
    """A figure for rows that are not there would be worth nothing."""
    written = await pool.fetchval("SELECT count(*) FROM usage_logs")
    size = await pool.fetchval("SELECT avg(length(metadata::text)) FROM usage_logs")
    sys.stdout.write(f"{written:,} rows in the ledger, {size:.0f} B metadata each\n")
    if written != expected:
        raise SystemExit(f"expected {expected:,}")


def timed(label: str, rows: int, work: Callable[[], list[Any]]) -> list[Any]:
    started = time.perf_counter()
    result = work()
    show(label, rows, time.perf_counter() - started)
    return result


def show(label: str, rows: int, seconds: float) -> None:
    sys.stdout.write(
        f"{label:<32}{rows / seconds:>10,.0f} records/s"
        f"{seconds / rows * 1e6:>10.1f} us/record\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--commit-ms", type=int, default=0)
    given = parser.parse_args()
    asyncio.run(main(min(given.seconds, 120), given.commit_ms))
