"""A usage sink as a process of its own: what it is sent, and what it takes."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import httpx

from bench.batches import BATCH, Traffic
from usage_sink import otlp
from usage_sink.pricing import KEPT_BOOK

STORE_BATCH = 5000  # rows of one transaction
UNDER_WAY = 16  # Export calls not yet answered
BEHIND = 60_000  # records answered and not yet committed
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
