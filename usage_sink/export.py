"""The ledger as a file, from its archives and its live days alike.

One snapshot of both. A restored day is read from the ledger.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final

import asyncpg

from runtime.contracts import (
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_ARCHIVES,
    TABLE_USAGE_LOGS,
    USAGE_DAY_IS_AWAY,
)
from runtime.spreadsheets import DEFUSED, FORMULA
from usage_sink import manifest, parquet
from usage_sink.days import bounds
from usage_sink.errors import ArchiveDamaged

Row = tuple[Any, ...]
Write = Callable[[Sequence[Row]], None]

#: The archiver leaves the days for its next run, so none is missed meanwhile.
_HOLD: Final = f"LOCK TABLE {TABLE_USAGE_LOGS} IN ACCESS SHARE MODE"
_ROWS: Final = f"""
SELECT {", ".join(parquet.SHOWN)} FROM {TABLE_USAGE_LOGS}
WHERE created_at >= $1 AND created_at < $2 ORDER BY created_at, id
"""
_AWAY: Final = f"""
SELECT day FROM {TABLE_USAGE_ARCHIVES}
WHERE day BETWEEN $1 AND $2 AND {USAGE_DAY_IS_AWAY}
ORDER BY day
"""
_ADJUSTMENTS: Final = f"""
SELECT {", ".join(parquet.ADJUSTED)} FROM {TABLE_USAGE_ADJUSTMENTS}
WHERE usage_created_at >= $1 AND usage_created_at < $2 ORDER BY usage_created_at, id
"""
_formula: Final = re.compile(FORMULA)
_CREATED_AT: Final = parquet.SHOWN.index("created_at")


class Format(StrEnum):
    """What a file of rows can be."""

    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class Span:
    """Instants from `start` to before `end`."""

    start: datetime
    end: datetime


async def export_adjustments(
    connection: asyncpg.Connection, span: Span, write: Write
) -> int:
    """Hand the corrections of the rows of `span` to `write`; how many."""
    count = 0
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        cursor = await connection.cursor(_ADJUSTMENTS, span.start, span.end)
        while found := await cursor.fetch(parquet.CHUNK_ROWS):
            write([tuple(row) for row in found])
            count += len(found)
    return count


async def export(
    connection: asyncpg.Connection, folder: Path | None, span: Span, write: Write
) -> int:
    """Hand the rows of `span` to `write`, in the order of their time; how many.

    Raises:
        ArchiveDamaged: an archived day is missing or not as noted.
    """
    count = 0
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(_HOLD)
        async for rows in _rows(connection, folder, span):
            write(rows)
            count += len(rows)
    return count


async def _rows(
    connection: asyncpg.Connection, folder: Path | None, span: Span
) -> AsyncIterator[Sequence[Row]]:
    at = span.start
    last = (span.end - timedelta(microseconds=1)).date()
    away = await connection.fetch(_AWAY, span.start.date(), last)
    for day in (row["day"] for row in away):
        first, after = bounds(day)
        async for rows in _live(connection, at, min(first, span.end)):
            yield rows
        for rows in _archived(folder, day):
            yield [row for row in rows if span.start <= row[_CREATED_AT] < span.end]
        at = max(at, after)
    async for rows in _live(connection, at, span.end):
        yield rows


async def _live(
    connection: asyncpg.Connection, start: datetime, end: datetime
) -> AsyncIterator[Sequence[Row]]:
    if start >= end:
        return
    cursor = await connection.cursor(_ROWS, start, end)
    while found := await cursor.fetch(parquet.CHUNK_ROWS):
        yield [tuple(row) for row in found]


def _archived(folder: Path | None, day: date) -> Iterator[list[Row]]:
    if folder is None:
        raise ArchiveDamaged(f"{day} is archived: say where with --archive-dir")
    archived = manifest.read(folder, day)
    return parquet.rows(folder / archived.file, parquet.SHOWN)


@contextmanager
def writer(
    kind: Format,
    target: IO[bytes],
    text: IO[str],
    schema: Any = parquet.USAGE_SCHEMA,
) -> Iterator[Write]:
    """Writes rows to `target`; `text` is the same file for what is text."""
    match kind:
        case Format.PARQUET:
            file = parquet.Writer(schema, target)
            yield file.add
            file.close()
        case Format.CSV:
            text.write(",".join(schema.names) + "\r\n")
            yield lambda rows: text.writelines(map(_as_csv, rows))
        case Format.NDJSON:
            yield lambda rows: text.writelines(
                _as_json(schema.names, row) for row in rows
            )
    text.flush()


def _as_csv(row: Row) -> str:
    return ",".join(map(_cell, _as_text(row))) + "\r\n"


def _cell(value: object) -> str:
    """In quotes when it is text, also where commas separate nothing."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    text = _formula.sub(DEFUSED, value).replace('"', '""')
    return f'"{text}"'


def _as_text(row: Row) -> list[object]:
    return [
        value.isoformat() if isinstance(value, datetime) else value for value in row
    ]


def _as_json(names: Sequence[str], row: Row) -> str:
    values = dict(zip(names, _as_text(row), strict=True))
    # The document is passed on as it is: Python's numbers would lose digits.
    metadata = values.pop("metadata")
    text = json.dumps(values, ensure_ascii=False, default=str)
    return f'{text[:-1]}, "metadata": {metadata}}}\n'
