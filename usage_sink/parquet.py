"""Rows of the ledger as Parquet: each stored column with its own type, nothing lost.

`metadata` is PostgreSQL's text of the document, so that numbers keep all digits and
the row digests the same when it is loaded again. Memory is bounded by a row group.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
from pyarrow import parquet

from usage_sink.seals import SEALED, SealKind

#: Rows read at once, and rows that are compressed together.
CHUNK_ROWS: Final = 5_000
_GROUP_ROWS: Final = 50_000
_READ_BYTES: Final = 1024 * 1024

_INSTANT: Final = pa.timestamp("us", tz="UTC")
_TYPES: Final = {
    "id": pa.uuid(),
    "usage_id": pa.uuid(),
    "usage_created_at": _INSTANT,
    "tokens": pa.int32(),
    "credits": pa.int32(),
    "created_at": _INSTANT,
    "status": pa.int16(),
    "duration_ms": pa.int32(),
    "bytes_received": pa.int64(),
    "bytes_sent": pa.int64(),
    "input_tokens": pa.int32(),
    "output_tokens": pa.int32(),
    "cached_tokens": pa.int32(),
    "reasoning_tokens": pa.int32(),
    "recorded_at": _INSTANT,
    "chain": pa.int32(),
    "seal": pa.int64(),
    "billable": pa.bool_(),
}

#: What is loaded again, and what is kept for whoever reads the file besides.
STORED: Final = SEALED[SealKind.USAGE]
SHOWN: Final = (*STORED, "billable")

USAGE_SCHEMA: Final = pa.schema(
    [(name, _TYPES.get(name, pa.string())) for name in SHOWN]
)
ADJUSTED: Final = SEALED[SealKind.ADJUSTMENT]
ADJUSTMENTS_SCHEMA: Final = pa.schema(
    [(name, _TYPES.get(name, pa.string())) for name in ADJUSTED]
)
SEALS_SCHEMA: Final = pa.schema(
    [
        ("name", pa.string()),
        ("chain", pa.int32()),
        ("seal", pa.int64()),
        ("rows", pa.int32()),
        ("digest", pa.binary(32)),
        ("previous", pa.binary(32)),
        ("head", pa.binary(32)),
        ("sealed_at", _INSTANT),
    ]
)


def batch(schema: pa.Schema, rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    """`rows` in the order of the schema's fields."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    arrays = [
        _array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.UuidType):
        storage = pa.array([value.bytes for value in values], pa.binary(16))
        return pa.ExtensionArray.from_storage(kind, storage)
    return pa.array(values, kind)


class Writer:
    """Gathers batches to row groups."""

    def __init__(self, schema: pa.Schema, target: Any) -> None:
        self._schema = schema
        self._writer = parquet.ParquetWriter(
            target, schema, compression="zstd", compression_level=6
        )
        self._waiting: list[pa.RecordBatch] = []
        self._count = 0

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        self._waiting.append(batch(self._schema, rows))
        self._count += len(rows)
        if self._count >= _GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        if self._count:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema))
        self._waiting, self._count = [], 0


@contextmanager
def writing(path: Path, schema: pa.Schema) -> Iterator[Writer]:
    """A file that is on the disk, with all its rows, when the block has ended."""
    with path.open("wb") as file:
        writer = Writer(schema, file)
        yield writer
        writer.close()
        sync(file)


def rows(path: Path, columns: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
    """The file's rows, `CHUNK_ROWS` at a time.

    Raises:
        ValueError: a column is missing, or the file is no Parquet.
    """
    with parquet.ParquetFile(path) as file:
        missing = set(columns) - set(file.schema_arrow.names)
        if missing:
            raise ValueError(f"{path.name}: no column {', '.join(sorted(missing))}")
        for chunk in file.iter_batches(CHUNK_ROWS, columns=list(columns)):
            values = [chunk.column(name).to_pylist() for name in columns]
            yield list(zip(*values, strict=True))


def sha256(path: Path) -> str:
    """Of the file as it is on the disk, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in _chunks(file):
            digest.update(chunk)
    return digest.hexdigest()


def _chunks(file: Any) -> Iterable[bytes]:
    return iter(lambda: file.read(_READ_BYTES), b"")


def sync(file: IO[Any]) -> None:
    """Make what was written durable."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
