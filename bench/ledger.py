"""How many access-log records a second one usage sink turns into committed rows.

    python -m bench.ledger [--rows 200000]

Measures, on an embedded PostgreSQL of its own (durable, with every index and
trigger), each stage from the bytes of an OTLP batch to the commit, then the whole
path through the group-commit writer with several batches under way. Half of the rows
are there before anything is measured, and no two have the same start: small indexes
full of equal keys would flatter the figures by half. The rows are counted at the end.
Bounded: about half a minute.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from local.engines import running_postgres
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from runtime.postgres import connect_pool, migrate
from usage_sink import otlp
from usage_sink.buffer import Limits
from usage_sink.chain import Chain
from usage_sink.partitions import make_partitions
from usage_sink.pricing import PricesInForce
from usage_sink.records import UsageRecord
from usage_sink.service import Intake
from usage_sink.store_postgres import PostgresUsageStore
from usage_sink.writer import LedgerWriter

CHAIN = Chain("bench", "bench")
BATCH = 50  # records of one Export call: 16 KiB, Envoy's usual batch
UNDER_WAY = 64  # Export calls waiting for their commit
USERS = 10_000
MODELS = ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06", "gpt-4o-realtime")
PRICE = {
    "service": "openai",
    "model": "gpt-4o*",
    "from": "2026-01-01",
    "input_per_1000": "2.5",
    "output_per_1000": "10",
    "cached_per_1000": "1.25",
}


class Traffic:
    """Batches as Envoy sends them; a third of the calls are AI calls."""

    def __init__(self, now: float) -> None:
        self._random = random.Random(7)  # noqa: S311 - the same traffic every time
        self._microsecond = round(now * 1_000_000)

    def exports(self, rows: int) -> list[bytes]:
        return [self._export() for _ in range(rows // BATCH)]

    def _export(self) -> bytes:
        request: Any = otlp.ExportRequest()
        logs = request.resource_logs.add()
        logs.resource.attributes.add(key="node_name").value.string_value = "node-1"
        scope = logs.scope_logs.add()
        for _ in range(BATCH):
            record = scope.log_records.add()
            for key, value in self._entry().items():
                record.attributes.add(key=key).value.string_value = value
        return bytes(request.SerializeToString())

    def _entry(self) -> dict[str, str]:
        self._microsecond += self._random.randrange(1, 100)
        second, micro = divmod(self._microsecond, 1_000_000)
        entry = {
            **an_entry(ai=self._random.random() < 1 / 3),
            "id": str(uuid4()),
            "start": f"{second}.{micro:06d}",
            "user_id": f"user-{self._random.randrange(USERS)}",
            "session_id": f"session-{self._random.randrange(10**9)}",
        }
        if entry["llm_model"] != "-":
            entry["llm_model"] = self._random.choice(MODELS)
        return entry


def an_entry(*, ai: bool) -> dict[str, str]:
    return {
        "route": "openai" if ai else "users",
        "service": "mcp-server" if ai else "core-service",
        "method": "POST",
        "path": "/api/mcp/openai/v1/chat/completions",
        "protocol": "HTTP/1.1",
        "status": "200",
        "flags": "-",
        "details": "via_upstream",
        "duration_ms": "412",
        "upstream_ms": "410",
        "bytes_received": "812",
        "bytes_sent": "1931",
        "address": "192.0.2.7",
        "upstream": "127.0.0.1:3003",
        "role": "user",
        "reason": "-",
        "llm_protocol": "1" if ai else "-",
        "llm_model": MODELS[0] if ai else "-",
        "llm_status": "1" if ai else "-",
        "llm_input": "1010" if ai else "-",
        "llm_output": "230" if ai else "-",
        "llm_total": "1240" if ai else "-",
        "llm_cached": "640" if ai else "-",
        "usage_service": "-",
        "usage_model": "-",
        "usage_input": "-",
        "usage_output": "-",
        "usage_credits": "-",
        "conversation_id": "conversation-0123456789abcdef0123456789abcdef",
    }


async def main(rows: int) -> None:
    clock = SystemClock()
    prices = PricesInForce(clock, 0)
    prices.accept({"version": "v1", "prices": [PRICE]})
    intake = Intake(prices, Metrics(), region="local", version="bench")
    with tempfile.TemporaryDirectory() as folder:
        async with running_postgres(Path(folder) / "postgres") as url:
            await migrate(url, package="usage_sink")
            pool = await connect_pool(
                url, max_size=3, command_timeout_s=30, connect_deadline_s=10
            )
            await make_partitions(pool, clock.now(), 1)
            traffic = Traffic(clock.now())
            await prefill(pool, intake, traffic.exports(rows // 2))
            await stages(pool, intake, traffic.exports(rows // 4))
            await whole_path(pool, intake, traffic.exports(rows // 4))
            await check(pool, rows)
            await pool.close()


async def prefill(pool: asyncpg.Pool, intake: Intake, exports: list[bytes]) -> None:
    store = PostgresUsageStore(pool, CHAIN)
    for raw in exports:
        request = otlp.ExportRequest.FromString(raw)
        await store.write(intake.convert(otlp.entries(request)).records)


async def stages(pool: asyncpg.Pool, intake: Intake, exports: list[bytes]) -> None:
    """Each stage alone, in batches of 2,000 rows."""
    rows = len(exports) * BATCH
    requests = timed(
        "decode OTLP",
        rows,
        lambda: [otlp.ExportRequest.FromString(one) for one in exports],
    )
    entries = timed(
        "read attributes", rows, lambda: [list(otlp.entries(one)) for one in requests]
    )
    records: list[UsageRecord] = [
        record
        for converted in timed(
            "map and price", rows, lambda: [intake.convert(one) for one in entries]
        )
        for record in converted.records
    ]
    store = PostgresUsageStore(pool, CHAIN)
    for label in ("make rows, COPY, INSERT", "the same again: a replay"):
        started = time.perf_counter()
        for at in range(0, len(records), 2000):
            await store.write(records[at : at + 2000])
        show(label, rows, time.perf_counter() - started)


async def whole_path(pool: asyncpg.Pool, intake: Intake, exports: list[bytes]) -> None:
    """Bytes to commit, with `UNDER_WAY` Export calls at a time."""
    waiting = iter(exports)
    writer = LedgerWriter(Limits(2000, 0.01, 20_000), SystemClock(), Metrics())
    running = asyncio.create_task(writer.run(PostgresUsageStore(pool, CHAIN)))
    await asyncio.sleep(0)

    async def send() -> None:
        for raw in waiting:
            request = otlp.ExportRequest.FromString(raw)
            await writer.write(intake.convert(otlp.entries(request)))

    started = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(UNDER_WAY)))
    seconds = time.perf_counter() - started
    show("whole path, bytes to commit", len(exports) * BATCH, seconds)
    writer.close()
    await running


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
        f"{label:<30}{rows / seconds:>12,.0f} records/s"
        f"{seconds / rows * 1e6:>9.1f} us/record\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    wanted = min(parser.parse_args().rows, 1_000_000)
    asyncio.run(main(max(wanted // (4 * BATCH), 1) * 4 * BATCH))
