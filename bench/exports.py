"""Exports of half a million rows: how long, and how much memory they take."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final

import asyncpg

from bench.questions import LAST
from control.database import Database
from control.export import Exporter, ExportQuery, Format
from control.late_exports import LateExports
from control.pseudonyms import MemoryPseudonyms
from control.usage import UsageFilter
from control.usage_postgres import PostgresUsageQueries
from runtime.clock import SystemClock

ROWS: Final = 500_000
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was made; `grown_mb`: the process's peak above what it had before."""

    format: Format
    rows: int
    bytes: int
    seconds: float
    grown_mb: float
    copy_s: float


async def exported(
    database: Database, url: str, kind: Format, per_day: int
) -> Exported:
    """The first rows of the last days."""
    end = datetime.combine(LAST + timedelta(days=1), time(), UTC)
    chosen = UsageFilter(start=end - timedelta(days=ROWS / per_day), end=end)
    exports = LateExports(partial(_exports, database))
    before = _peak_mb(reset=True)
    began = perf_counter()
    query = await exports.fixed(ExportQuery(chosen=chosen, format=kind))
    size = 0
    async for some in exports.stream(query, "bench"):
        size += len(some)
    seconds = perf_counter() - began
    grown = _peak_mb() - before
    manifest = exports.manifest_of(query)
    return Exported(
        kind,
        0 if manifest is None else manifest.sums.rows,
        size,
        seconds,
        grown,
        await _copied(url, chosen),
    )


def _exports(database: Database) -> Exporter:
    # As control does it: what pyarrow takes belongs to the first export.
    from control.export_rows_postgres import LedgerRows  # noqa: PLC0415
    from control.exports import Exports  # noqa: PLC0415

    rows = LedgerRows(database, PostgresUsageQueries(database), None)
    return Exports(rows, MemoryPseudonyms(SystemClock()))


async def _copied(url: str, chosen: UsageFilter) -> float:
    """The same rows as PostgreSQL's own COPY, to nowhere."""
    connection = await asyncpg.connect(url, command_timeout=600)

    async def drop(_: bytes) -> None:
        """Nobody reads it."""

    try:
        began = perf_counter()
        await connection.copy_from_query(
            "SELECT * FROM usage_logs WHERE created_at >= $1 AND created_at < $2 "
            "ORDER BY created_at, id",
            *(chosen.start, chosen.end),
            output=drop,
            format="csv",
        )
        return perf_counter() - began
    finally:
        await connection.close()


def _peak_mb(*, reset: bool = False) -> float:
    """This process's peak of resident memory, from now on when `reset`."""
    if sys.platform != "linux":
        return 0.0
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(one for one in status.splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) / _KIB
