"""The ledger as a file, from its archives and its live days alike.

Each day is read in one snapshot that holds off the archiver, so that a day is never
missed between the ledger and its archive. A restored day is read from the ledger.
"""

import csv
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final

import asyncpg

from runtime.contracts import TABLE_USAGE_LOGS
from usage_sink import manifest, parquet
from usage_sink.archive import bounds
from usage_sink.errors import ArchiveDamaged
from usage_sink.schema import TABLE_ARCHIVES

Row = tuple[Any, ...]
Write = Callable[[Sequence[Row]], None]

#: Not waiting here means: an archiver that waits would hold every writer up.
_HOLD: Final = f"LOCK TABLE {TABLE_USAGE_LOGS} IN ACCESS SHARE MODE"
_ROWS: Final = f"""
SELECT {", ".join(parquet.SHOWN)} FROM {TABLE_USAGE_LOGS}
WHERE created_at >= $1 AND created_at < $2 ORDER BY created_at, id
"""
_IS_AWAY: Final = f"""
SELECT EXISTS (SELECT FROM {TABLE_ARCHIVES}
    WHERE day = $1 AND dropped_at IS NOT NULL AND restored_at IS NULL)
"""
_METADATA: Final = parquet.SHOWN.index("metadata")
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

    def days(self) -> Iterator[date]:
        day = self.start.date()
        while bounds(day)[0] < self.end:
            yield day
            day += timedelta(days=1)

    def within(self, day: date) -> "Span":
        first, last = bounds(day)
        return Span(max(first, self.start), min(last, self.end))


async def export(
    connection: asyncpg.Connection, folder: Path | None, span: Span, write: Write
) -> int:
    """Hand the rows of `span` to `write`, in the order of their time; how many.

    Raises:
        ArchiveDamaged: an archived day is missing or not as noted.
    """
    count = 0
    for day in span.days():
        async for rows in _rows_of(connection, folder, span.within(day), day):
            write(rows)
            count += len(rows)
    return count


async def _rows_of(
    connection: asyncpg.Connection, folder: Path | None, part: Span, day: date
) -> AsyncIterator[Sequence[Row]]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(_HOLD)
        if await connection.fetchval(_IS_AWAY, day):
            for rows in _archived(folder, day):
                yield [row for row in rows if part.start <= row[_CREATED_AT] < part.end]
        cursor = await connection.cursor(_ROWS, part.start, part.end)
        while found := await cursor.fetch(parquet.CHUNK_ROWS):
            yield [tuple(row) for row in found]


def _archived(folder: Path | None, day: date) -> Iterator[list[tuple[Any, ...]]]:
    if folder is None:
        raise ArchiveDamaged(f"{day} is archived: say where with --archive-dir")
    archived = manifest.read(folder, day)
    return parquet.rows(folder / archived.file, parquet.SHOWN)


@contextmanager
def writer(kind: Format, target: IO[bytes], text: IO[str]) -> Iterator[Write]:
    """Writes rows to `target`; `text` is the same file for what is text."""
    match kind:
        case Format.PARQUET:
            file = parquet.Writer(parquet.USAGE_SCHEMA, target)
            yield file.add
            file.close()
        case Format.CSV:
            table = csv.writer(text)
            table.writerow(parquet.SHOWN)
            yield lambda rows: table.writerows(map(_as_text, rows))
        case Format.NDJSON:
            yield lambda rows: text.writelines(map(_as_json, rows))
    text.flush()


def _as_text(row: Row) -> list[object]:
    return [
        value.isoformat() if isinstance(value, datetime) else value for value in row
    ]


def _as_json(row: Row) -> str:
    # The document is passed on as it is: Python's numbers would lose digits.
    values = {
        name: value if isinstance(value, int | None) else str(value)
        for name, value in zip(parquet.SHOWN, _as_text(row), strict=True)
        if name != "metadata"
    }
    text = json.dumps(values, ensure_ascii=False)
    return f'{text[:-1]}, "metadata": {row[_METADATA]}}}\n'
