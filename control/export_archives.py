"""The archived days that exports read: their files, compared with what was noted."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet

from control.export import ArchiveUnavailable, ExportQuery, Snapshot
from control.export_files import SCHEMA
from control.usage import COLUMNS, Cursor, UsageRow

CHUNK_ROWS: Final = 5_000
_READ_BYTES: Final = 1024 * 1024
#: What the ledger has of SCHEMA: all but the corrections.
STORED: Final = pa.schema(list(SCHEMA)[: len(COLUMNS)])
#: By which a row of an archive is chosen.
_TESTED: Final = [
    *("created_at", "id", "user_id", "service", "model", "status", "outcome"),
    *("chain", "seal"),
]


@dataclass(frozen=True, slots=True)
class Ask:
    """Rows from `start` to before `end`, behind `cursor`."""

    query: ExportQuery
    snapshot: Snapshot
    start: datetime
    end: datetime
    cursor: Cursor

    def has(self, row: UsageRow) -> bool:
        """Of a row of an archive, whose day is the right one."""
        return (
            self.start <= row["created_at"] < self.end
            and self.snapshot.has(row["chain"], row["seal"])
            and self.query.chosen.matches(row)
            and (row["created_at"], row["id"]) > self.cursor.place
        )


@dataclass(frozen=True, slots=True)
class Archive:
    file: str
    sha256: str


def open_archive(folder: Path | None, archive: Archive) -> "Reader":
    """Raises ArchiveUnavailable."""
    if folder is None:
        raise ArchiveUnavailable(f"{archive.file}: HUBGATE_ARCHIVE_DIR is not set")
    path = folder / archive.file
    try:
        if _sha256(path) != archive.sha256:
            raise ArchiveUnavailable(f"{archive.file} is not what was archived")
        return Reader(path)
    except (OSError, pa.ArrowException) as error:
        raise ArchiveUnavailable(f"{archive.file}: {error}") from error


class Reader:
    """An archive's rows by name, a piece at a time."""

    def __init__(self, path: Path) -> None:
        self._file = parquet.ParquetFile(path)
        self._batches: Iterator[Any] = self._file.iter_batches(
            CHUNK_ROWS, columns=[*COLUMNS, "chain", "seal"]
        )

    def next(self, ask: Ask) -> pa.RecordBatch | None:
        """What is asked for of the next piece; None: there is none."""
        read = next(self._batches, None)
        if read is None:
            return None
        rows = read.filter(pa.array(map(ask.has, read.select(_TESTED).to_pylist())))
        texts = map(str, rows.column("id").to_pylist())
        arrays = [
            pa.array(texts, pa.string()) if name == "id" else rows.column(name)
            for name in COLUMNS
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=STORED)

    def close(self) -> None:
        self._file.close()


def next_rows(reader: Reader, ask: Ask) -> pa.RecordBatch | None:
    try:
        return reader.next(ask)
    except (OSError, pa.ArrowException) as error:
        raise ArchiveUnavailable(str(error)) from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while content := file.read(_READ_BYTES):
            digest.update(content)
    return digest.hexdigest()
