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
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import grpc.aio
import httpx

from local.engines import running_postgres
from runtime.clock import SystemClock
from runtime.contracts import (
    ACCESS_LOG_ATTRIBUTES,
    LOG_FIELDS,
    LOG_FREE_TEXTS,
    LOG_SEPARATOR,
)
from runtime.migrations import migrate
from runtime.postgres import connect_pool
from usage_sink import otlp
from usage_sink.chain import Chain
from usage_sink.intake import Intake
from usage_sink.partitions import make_partitions
from usage_sink.pricing import KEPT_BOOK, PricesInForce
from usage_sink.records import UsageRecord
from usage_sink.segments import Entry, Kind, Position
from usage_sink.store_postgres import PostgresUsageStore

BATCH = 180  # records of one Export call: 56 KiB, Envoy's batch under load
STORE_BATCH = 5000  # rows of one transaction
UNDER_WAY = 16  # Export calls not yet answered
BEHIND = 60_000  # records answered and not yet committed
BEFORE = 100_000  # rows that are there before
ARRIVING = 20_000  # records/s, where commits are slow
TEMPLATES = 200
USERS = 10_000
MODELS = ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06", "gpt-4o-realtime")
BOOK = {
    "version": "v1",
    "prices": [
        {
            "service": "openai",
            "model": "gpt-4o*",
            "from": "2026-01-01",
            "input_per_1000": "2.5",
            "output_per_1000": "10",
            "cached_per_1000": "1.25",
        }
    ],
}
_ID = "00000000-0000-4000-8000-000000000000"
_START = "1000000000.000000"
_SLOW_COMMIT = """
CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON usage_seals
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow_commit();
"""


class Traffic:
    """Batches as Envoy sends them; a third of the calls are AI calls.

    Made from templates, with a new id and start in each record: the sender's own
    cost must stay small beside what is measured.
    """

    def __init__(self, now: float) -> None:
        self._random = random.Random(7)  # noqa: S311 - the same traffic every time
        self._microsecond = round(now * 1_000_000)
        self._templates = [self._template() for _ in range(TEMPLATES)]

    def export(self) -> bytes:
        template, ids, starts = self._random.choice(self._templates)
        batch = bytearray(template)
        for at in ids:
            text = str(UUID(int=self._random.getrandbits(128), version=4))
            batch[at : at + len(text)] = text.encode()
        for at in starts:
            self._microsecond += self._random.randrange(1, 100)
            second, micro = divmod(self._microsecond, 1_000_000)
            batch[at : at + len(_START)] = b"%d.%06d" % (second, micro)
        return bytes(batch)

    def _template(self) -> tuple[bytes, list[int], list[int]]:
        request: Any = otlp.ExportRequest()
        logs = request.resource_logs.add()
        joined = [one for one in ACCESS_LOG_ATTRIBUTES if one not in LOG_FREE_TEXTS]
        for key, text in (("node_name", "node-1"), (LOG_FIELDS, ",".join(joined))):
            logs.resource.attributes.add(key=key).value.string_value = text
        scope = logs.scope_logs.add()
        for _ in range(BATCH):
            record = scope.log_records.add()
            entry = dict.fromkeys(ACCESS_LOG_ATTRIBUTES, "-") | self._entry()
            texts = [entry[name] for name in joined]
            record.body.string_value = LOG_SEPARATOR.join(texts)
            for name in LOG_FREE_TEXTS:
                record.attributes.add(key=name).value.string_value = entry[name]
        data = bytes(request.SerializeToString())
        return data, places(data, _ID.encode()), places(data, _START.encode())

    def _entry(self) -> dict[str, str]:
        entry = {
            **an_entry(ai=self._random.random() < 1 / 3),
            "id": _ID,
            "start": _START,
            "user_id": f"user-{self._random.randrange(USERS)}",
            "session_id": f"session-{self._random.randrange(10**9)}",
            "duration_ms": str(self._random.randrange(5000)),
        }
        if entry["llm_model"] != "-":
            entry["llm_model"] = self._random.choice(MODELS)
        return entry


def places(data: bytes, text: bytes) -> list[int]:
    found, at = [], data.find(text)
    while at >= 0:
        found.append(at)
        at = data.find(text, at + 1)
    return found


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
        "ai": "true" if ai else "-",
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


@dataclass
class Sink:
    """A usage sink as a process, and what was sent to it."""

    process: asyncio.subprocess.Process
    export: Callable[[bytes], Any]
    ops: httpx.AsyncClient
    sent: int = 0
    committed: int = 0

    async def send(
        self,
        traffic: Traffic,
        *,
        rows: int = sys.maxsize,
        seconds: float = 3600,
        rate: float = 0,
    ) -> None:
        """Send until one of both, at `rate` records/s.

        Without a rate as fast as the ledger takes them: never more than BEHIND ahead.
        """
        began, first = time.perf_counter(), self.sent

        def is_early() -> bool:
            if not rate:
                return self.sent - self.committed > BEHIND
            return self.sent - first > rate * (time.perf_counter() - began)

        async def one_after_the_other() -> None:
            while self.sent < first + rows and time.perf_counter() < began + seconds:
                if is_early():
                    await asyncio.sleep(0.01)
                    continue
                self.sent += BATCH
                await self.export(traffic.export())

        watching = asyncio.create_task(self._watch())
        await asyncio.gather(*(one_after_the_other() for _ in range(UNDER_WAY)))
        watching.cancel()

    async def has_committed(self, rows: int) -> None:
        async with asyncio.timeout(120):
            while self.committed < rows:
                await asyncio.sleep(0.05)
                await self.look()

    async def look(self) -> None:
        text = (await self.ops.get("http://sink/metrics")).text
        for line in text.splitlines():
            if line.startswith('hubgate_usage_records_total{result="new"}'):
                self.committed = int(float(line.split()[-1]))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1)
            await self.look()


@asynccontextmanager
async def a_sink(folder: Path, database: str) -> AsyncIterator[Sink]:
    spool = folder / "spool"
    spool.mkdir()
    (spool / KEPT_BOOK).write_text(json.dumps(BOOK))
    address = f"unix:{folder}/sink.sock"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "usage_sink"),
        env={
            "HUBGATE_USAGE_SINK_LISTEN": address,
            "HUBGATE_USAGE_SINK_SPOOL_DIR": str(spool),
            "HUBGATE_USAGE_SINK_BATCH_ROWS": str(STORE_BATCH),
            "HUBGATE_OPS_LISTEN": f"unix:{folder}/ops.sock",
            "HUBGATE_DATABASE_URL": database,
            "HUBGATE_REDIS_URL": "redis://127.0.0.1:1/0",
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    transport = httpx.AsyncHTTPTransport(uds=f"{folder}/ops.sock")
    try:
        async with (
            grpc.aio.insecure_channel(address) as channel,
            httpx.AsyncClient(transport=transport, timeout=30) as ops,
        ):
            await asyncio.wait_for(channel.channel_ready(), 30)
            export: Any = channel.unary_unary(otlp.EXPORT_PATH)
            yield Sink(process, export, ops)
    finally:
        process.terminate()
        await process.wait()


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


def processes(pid_file: Path) -> Callable[[], list[int]]:
    """The server's processes, whenever they are asked for."""
    postmaster = int(pid_file.read_text().split()[0])

    def found() -> list[int]:
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text()
        return [postmaster, *map(int, children.split())]

    return found


def cpu_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024


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
