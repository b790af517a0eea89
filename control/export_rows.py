"""Rows of an export, in the order of their time: the port, and its twin for tests."""

import json
from collections.abc import AsyncGenerator
from typing import Protocol

import pyarrow as pa

from control.completeness import through
from control.export import EXPORTED, ExportQuery, Snapshot
from control.export_archives import CHUNK_ROWS
from control.export_files import batch
from control.store import MemoryUsageQueries
from control.usage import Sort, UsageQuery


class ExportRows(Protocol):
    """Raises StoreUnavailable, QueryTimeout or ArchiveUnavailable."""

    async def snapshot(self) -> Snapshot:
        """Of now."""

    def rows(
        self, query: ExportQuery, snapshot: Snapshot
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """In pieces, none of them empty, by (created_at, id)."""


class MemoryExportRows:
    """For tests and tools; its rows have chain 0 and seal 0 unless they say else."""

    def __init__(self, usage: MemoryUsageQueries) -> None:
        self._usage = usage
        self.seals: dict[int, int] = {0: 0}

    async def snapshot(self) -> Snapshot:
        return Snapshot(dict(self.seals), through(await self._usage.watermarks()))

    async def rows(
        self, query: ExportQuery, snapshot: Snapshot
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        found = await self._usage.find(
            UsageQuery(chosen=query.chosen, sort=Sort.OLDEST, limit=CHUNK_ROWS)
        )
        for row in found:
            if snapshot.has(row.get("chain", 0), row.get("seal", 0)):
                texts = {"metadata": json.dumps(row["metadata"]), "id": str(row["id"])}
                none = {"adjusted_tokens": 0, "adjusted_credits": 0}
                yield batch([{**dict.fromkeys(EXPORTED), **none, **row, **texts}])
