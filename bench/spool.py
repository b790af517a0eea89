"""What a durable append costs: our segment log beside SQLite in WAL mode.

    python -m bench.spool [--seconds 3]

The same batches (16 KiB, Envoy's usual), from as many callers at once, each waiting
until its batch is durable; both with group commit, both with a real fsync
(`synchronous=FULL`). Then both are read and emptied, in chunks as the loader does.
"""

import argparse
import asyncio
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from runtime.clock import SystemClock
from runtime.metrics import Metrics
from usage_sink.segments import Kind
from usage_sink.spool import Bounds, Spool

BATCH = 16 * 1024
CALLERS = (1, 8, 64)
_READ_BYTES = 1024 * 1024
_T = TypeVar("_T")


class Log(Protocol):
    """Takes batches durably; gives them back, oldest first, and forgets them."""

    async def append(self, payload: bytes) -> None: ...

    async def take(self) -> int:
        """Read and forget one chunk; how many batches it was."""

    async def close(self) -> None: ...


class Segments:
    """Ours."""

    def __init__(self, folder: Path) -> None:
        self._spool = Spool(folder, Bounds(), SystemClock(), Metrics())

    async def append(self, payload: bytes) -> None:
        await self._spool.append(Kind.OTLP, payload)

    async def take(self) -> int:
        chunk = await self._spool.read(_READ_BYTES)
        if chunk is None:
            return 0
        await self._spool.loaded(chunk.end)
        return len(chunk.entries)

    async def close(self) -> None:
        await self._spool.close()


class Sqlite:
    """One table of blobs; what waits while a transaction runs is the next one."""

    def __init__(self, folder: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._database = sqlite3.connect(
            folder / "spool.db", isolation_level=None, check_same_thread=False
        )
        for line in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "CREATE TABLE spool (id INTEGER PRIMARY KEY, kind, received, payload BLOB)",
        ):
            self._database.execute(line)

    async def append(self, payload: bytes) -> None:
        durable = asyncio.get_running_loop().create_future()
        self._waiting.append((payload, durable))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await durable

    async def take(self) -> int:
        return await self._run(self._take)

    async def close(self) -> None:
        await self._run(self._database.close)
        self._thread.shutdown()

    async def _write(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            payloads = [payload for payload, _ in group]
            await self._run(partial(self._insert, payloads))
            for _, durable in group:
                durable.set_result(None)
        self._writing = None

    def _insert(self, payloads: list[bytes]) -> None:
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO spool (kind, received, payload) VALUES (1, ?, ?)",
            [(0.0, payload) for payload in payloads],
        )
        self._database.execute("COMMIT")

    def _take(self) -> int:
        rows = self._database.execute(
            "SELECT id, payload FROM spool ORDER BY id LIMIT ?", (_READ_BYTES // BATCH,)
        ).fetchall()
        if rows:
            self._database.execute("DELETE FROM spool WHERE id <= ?", (rows[-1][0],))
        return len(rows)

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


async def main(seconds: float) -> None:
    for callers in CALLERS:
        for make in (Segments, Sqlite, Sqlite, Segments):
            with tempfile.TemporaryDirectory() as folder:
                await measure(make, Path(folder), callers, seconds)


async def measure(
    make: Callable[[Path], Log], folder: Path, callers: int, seconds: float
) -> None:
    log, payload = make(folder), os.urandom(BATCH)
    waits: list[float] = []
    until = time.perf_counter() + seconds

    async def one_after_the_other() -> None:
        while (started := time.perf_counter()) < until:
            await log.append(payload)
            waits.append(time.perf_counter() - started)

    cpu = time.process_time()
    await asyncio.gather(*(one_after_the_other() for _ in range(callers)))
    cpu = time.process_time() - cpu
    taking = await timed(lambda: empty(log, len(waits)))
    await log.close()
    waits.sort()
    rate = len(waits) / seconds
    sys.stdout.write(
        f"{make.__name__:<10}{callers:>4} callers{rate:>9,.0f} batches/s"
        f"  p50 {waits[len(waits) // 2] * 1e3:6.2f} ms"
        f"  p99 {waits[len(waits) * 99 // 100] * 1e3:6.2f} ms"
        f"  cpu {cpu / len(waits) * 1e6:5.0f} us"
        f"  taken at {len(waits) / taking:>7,.0f}/s\n"
    )
    sys.stdout.flush()


async def empty(log: Log, expected: int) -> None:
    taken = 0
    while count := await log.take():
        taken += count
    if taken != expected:
        raise SystemExit(f"{expected} batches were acknowledged, {taken} are there")


async def timed(work: Callable[[], Awaitable[None]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3)
    asyncio.run(main(min(parser.parse_args().seconds, 20)))
