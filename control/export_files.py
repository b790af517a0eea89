"""Rows as the bytes of a file, chunk by chunk: the same rows are the same bytes.

Text of instants is RFC 3339 in UTC. `metadata` is JSON: a value of its own in JSON, a
text in CSV and Parquet.
"""

import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import pyarrow as pa
from pyarrow import compute, csv, parquet

from control.export import EXPORTED, NAMES, Format, Sums
from control.export_json import joined
from control.parameters import shown
from control.usage import camel
from runtime.spreadsheets import DEFUSED, FORMULA

#: Of Parquet. A group, a page and a dictionary are held in memory.
_GROUP_ROWS: Final = 10_000
_PAGE_BYTES: Final = 256 * 1024
_ZSTD_LEVEL: Final = 1
_INSTANT: Final = pa.timestamp("us", tz="UTC")
_TYPES: Final = {
    "created_at": _INSTANT,
    "recorded_at": _INSTANT,
    "status": pa.int16(),
    "billable": pa.bool_(),
    **dict.fromkeys(("tokens", "credits", "duration_ms"), pa.int32()),
    **dict.fromkeys(("bytes_received", "bytes_sent"), pa.int64()),
    **dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens"), pa.int32()),
    "reasoning_tokens": pa.int32(),
    **dict.fromkeys(("adjusted_tokens", "adjusted_credits"), pa.int64()),
}
SCHEMA: Final = pa.schema(
    [(camel(name), _TYPES.get(name, pa.string())) for name in EXPORTED]
)
_TIMED: Final = ("created_at", "recorded_at")
_TIMES: Final = [EXPORTED.index(name) for name in _TIMED]
#: Texts but those that are a UUID or a JSON object.
_TEXTS: Final = [
    place
    for place, name in enumerate(EXPORTED)
    if name not in ("id", "metadata", *_TYPES)
]
#: Columns of Parquet that repeat values; each row has the others for itself.
_REPEATED: Final = [
    camel(name) for name in EXPORTED if name not in ("id", "metadata", *_TIMED)
]


class Encoder(Protocol):
    """Turns batches of SCHEMA to bytes; what comes of one may come out with a later."""

    def begin(self) -> bytes:
        """What stands before the rows."""

    def add(self, rows: pa.RecordBatch) -> bytes:
        """At least one row."""

    def end(self, sums: Sums, through: datetime | None) -> bytes:
        """What stands behind them."""


def encoder(kind: Format) -> Encoder:
    match kind:
        case Format.CSV:
            return _Csv()
        case Format.JSON:
            return _Json()
        case Format.NDJSON:
            return _Ndjson()
        case Format.PARQUET:
            return _Parquet()


class _Csv:
    def begin(self) -> bytes:
        return (",".join(NAMES) + "\r\n").encode()

    def add(self, rows: pa.RecordBatch) -> bytes:
        target = io.BytesIO()
        options = csv.WriteOptions(include_header=False, eol="\r\n")
        csv.write_csv(_for_people(rows), target, options)
        return target.getvalue()

    def end(self, sums: Sums, through: datetime | None) -> bytes:
        return b""


class _Ndjson:
    def begin(self) -> bytes:
        return b""

    def add(self, rows: pa.RecordBatch) -> bytes:
        return joined(rows, "\n") + b"\n"

    def end(self, sums: Sums, through: datetime | None) -> bytes:
        return b""


class _Json:
    """One document, shaped as the answer of the logs is."""

    def __init__(self) -> None:
        self._separator = b"\n"

    def begin(self) -> bytes:
        return b'{"items": ['

    def add(self, rows: pa.RecordBatch) -> bytes:
        content = self._separator + joined(rows, ",\n")
        self._separator = b",\n"
        return content

    def end(self, sums: Sums, through: datetime | None) -> bytes:
        behind = {
            "nextCursor": None,
            "totals": sums.as_json(),
            "completeThrough": None if through is None else shown(through),
        }
        return ("\n], " + json.dumps(behind)[1:] + "\n").encode()


class _Parquet:
    def __init__(self) -> None:
        self._target = _Pipe()
        self._writer = parquet.ParquetWriter(
            self._target,
            SCHEMA,
            use_dictionary=_REPEATED,
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            data_page_size=_PAGE_BYTES,
        )
        self._waiting: list[pa.RecordBatch] = []
        self._count = 0

    def begin(self) -> bytes:
        return self._target.take()

    def add(self, rows: pa.RecordBatch) -> bytes:
        self._waiting.append(rows)
        self._count += rows.num_rows
        if self._count >= _GROUP_ROWS:
            self._flush()
        return self._target.take()

    def end(self, sums: Sums, through: datetime | None) -> bytes:
        if self._count:
            self._flush()
        self._writer.close()
        return self._target.take()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._waiting, SCHEMA))
        self._waiting, self._count = [], 0


class _Pipe(io.RawIOBase):
    """Keeps what is written until it is taken, and how much there was."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._count = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        content = bytes(data)
        self._chunks.append(content)
        self._count += len(content)
        return len(content)

    def tell(self) -> int:
        return self._count

    def take(self) -> bytes:
        content = b"".join(self._chunks)
        self._chunks.clear()
        return content


def batch(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Of rows by the names of EXPORTED."""
    arrays = [
        pa.array([row[name] for row in rows], one.type)
        for name, one in zip(EXPORTED, SCHEMA, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _for_people(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Instants as RFC 3339, where Arrow's own text has a space, and no formulas."""
    arrays = list(rows.columns)
    for place in _TIMES:
        arrays[place] = compute.strftime(arrays[place], "%Y-%m-%dT%H:%M:%SZ")
    for place in _TEXTS:
        # Half as long as to replace; hardly any batch has one.
        if compute.any(compute.match_substring_regex(arrays[place], FORMULA)).as_py():
            arrays[place] = compute.replace_substring_regex(
                arrays[place], FORMULA, DEFUSED
            )
    return pa.RecordBatch.from_arrays(arrays, list(NAMES))
