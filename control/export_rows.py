"""Rows of an export out of the ledger and its archives, in the order of their time.

They are read in pieces that are questions of their own, each bounded by the snapshot's
seals: no transaction stays open while a slow client reads. After each piece it is asked
whether a day of it has been archived meanwhile; then that day comes from its file.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

import pyarrow as pa
from pyarrow import parquet

from control.completeness import through
from control.database import Database
from control.export import EXPORTED, ExportQuery, Row, Snapshot
from control.store import MemoryUsageQueries, UsageQueries
from control.usage import COLUMNS, Cursor, Sort, UsageFilter, UsageQuery, UsageRow
from control.usage_sql import Where
from runtime.contracts import (
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_ARCHIVES,
    TABLE_USAGE_CHAINS,
    TABLE_USAGE_LOGS,
    TABLE_USAGE_SEALS,
)

CHUNK_ROWS: Final = 5_000
#: One question looks at so much: of one user an index finds the rows.
_WINDOW: Final = timedelta(days=1)
_WINDOW_OF_ONE: Final = timedelta(days=31)
_READ_BYTES: Final = 1024 * 1024
#: All that may leave the house of a pseudonymous row's metadata.
_IMPERSONAL: Final = ("response", "provider", "billing")

_AT: Final = EXPORTED.index("created_at")
_ID: Final = EXPORTED.index("id")
_METADATA: Final = EXPORTED.index("metadata")

# S608: only names of ours are put into these texts, values are parameters.
_SEALS: Final = f"""
SELECT chain, seal FROM {TABLE_USAGE_CHAINS} c CROSS JOIN LATERAL (
    SELECT seal FROM {TABLE_USAGE_SEALS} s WHERE s.chain = c.chain
    ORDER BY seal DESC LIMIT 1) AS last
"""  # noqa: S608
_FIRST_AND_LAST: Final = f"""
SELECT least((SELECT min(created_at) FROM {TABLE_USAGE_LOGS}),
    (SELECT min(day)::timestamp AT TIME ZONE 'UTC' FROM {TABLE_USAGE_ARCHIVES})),
  greatest((SELECT max(created_at) FROM {TABLE_USAGE_LOGS}),
    (SELECT max(day + 1)::timestamp AT TIME ZONE 'UTC' FROM {TABLE_USAGE_ARCHIVES}))
"""  # noqa: S608
_ARCHIVED: Final = f"""
SELECT day, file, sha256 FROM {TABLE_USAGE_ARCHIVES}
WHERE day BETWEEN $1 AND $2 AND dropped_at IS NOT NULL AND restored_at IS NULL
"""  # noqa: S608
_ROWS: Final = f"""
SELECT {{columns}} FROM {TABLE_USAGE_LOGS} WHERE {{conditions}}
    AND seal <= ({{seals}}::bigint[])[array_position({{chains}}::int[], chain)]
ORDER BY created_at, id LIMIT {CHUNK_ROWS}
"""  # noqa: S608
_CORRECTIONS: Final = f"""
SELECT usage_id, sum(tokens), sum(credits) FROM {TABLE_USAGE_ADJUSTMENTS}
WHERE usage_created_at BETWEEN $1 AND $2
    AND seal <= ($3::bigint[])[array_position($4::int[], chain)]
GROUP BY usage_id
"""  # noqa: S608
_METADATA_OF: Final = """
SELECT {metadata} FROM unnest({texts}::text[]) WITH ORDINALITY AS given(text, place),
    LATERAL (SELECT text::jsonb AS metadata) AS document ORDER BY place
"""


_KEPT_METADATA: Final = (
    "(SELECT coalesce(jsonb_object_agg(key, value), '{{}}') FROM jsonb_each(metadata)"
    " WHERE key = ANY({kept}::text[]))::text AS metadata"
)


class ArchiveUnavailable(Exception):
    """A day's rows are in an archive that is not here, or not what was noted."""


class ExportRows(Protocol):
    """Raises StoreUnavailable, QueryTimeout or ArchiveUnavailable."""

    async def snapshot(self) -> Snapshot:
        """Of now."""

    def rows(
        self, query: ExportQuery, snapshot: Snapshot
    ) -> AsyncGenerator[Sequence[Row], None]:
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
    ) -> AsyncGenerator[Sequence[Row], None]:
        found = await self._usage.find(
            UsageQuery(chosen=query.chosen, sort=Sort.OLDEST, limit=CHUNK_ROWS)
        )
        for row in found:
            if snapshot.has(row.get("chain", 0), row.get("seal", 0)):
                texts = {"metadata": json.dumps(row["metadata"])}
                yield [tuple(({**row, **texts}).get(name, 0) for name in EXPORTED)]


@dataclass(frozen=True, slots=True)
class _Span:
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class _Ask:
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
class _Archive:
    file: str
    sha256: str


_BEFORE_ALL: Final = Cursor(datetime.min.replace(tzinfo=UTC), UUID(int=0))


class LedgerRows:
    """The ledger in PostgreSQL and its archives in `folder`."""

    def __init__(
        self, database: Database, usage: UsageQueries, folder: Path | None
    ) -> None:
        self._database = database
        self._usage = usage
        self._folder = folder

    async def snapshot(self) -> Snapshot:
        # First the claim, then the rows that it is about.
        instant = through(await self._usage.watermarks())
        async with self._database.reading() as connection:
            found = await connection.fetch(_SEALS)
        # Chain 0 has the rows from before there were seals.
        return Snapshot({0: 0, **{row["chain"]: row["seal"] for row in found}}, instant)

    async def rows(
        self, query: ExportQuery, snapshot: Snapshot
    ) -> AsyncGenerator[Sequence[Row], None]:
        span = await self._span(query.chosen)
        archived = await self._archived(span)
        width = _WINDOW if query.chosen.user_id is None else _WINDOW_OF_ONE
        at, cursor = span.start, _BEFORE_ALL
        while at < span.end:
            ask = _Ask(query, snapshot, at, _end_of(at, width, archived, span), cursor)
            if archive := archived.get(at.date()):
                async for rows in self._of_archive(ask, archive):
                    yield rows
                at = ask.end
                continue
            rows = await self._piece(ask)
            if await self._archived(_Span(ask.start, ask.end)):
                archived = await self._archived(span)
                continue
            if rows:
                cursor = _cursor(rows[-1])
                yield await self._corrected(rows, snapshot)
            if len(rows) < CHUNK_ROWS:
                at = ask.end

    async def _span(self, chosen: UsageFilter) -> _Span:
        async with self._database.reading() as connection:
            first, last = await connection.fetchrow(_FIRST_AND_LAST) or (None, None)
        if first is None or last is None:
            return _Span(_midnight(date(2000, 1, 1)), _midnight(date(2000, 1, 1)))
        after = last + timedelta(microseconds=1)
        return _Span(max(chosen.start or first, first), min(chosen.end or after, after))

    async def _archived(self, span: _Span) -> dict[date, _Archive]:
        last = (span.end - timedelta(microseconds=1)).date()
        async with self._database.reading() as connection:
            found = await connection.fetch(_ARCHIVED, span.start.date(), last)
        return {row["day"]: _Archive(row["file"], row["sha256"]) for row in found}

    async def _piece(self, ask: _Ask) -> list[Row]:
        chosen = replace(ask.query.chosen, start=ask.start, end=ask.end)
        where = Where(chosen)
        if ask.cursor is not _BEFORE_ALL:
            where.add_cursor(ask.cursor, Sort.OLDEST)
        metadata = _metadata(ask.query, where)
        columns = [metadata if name == "metadata" else name for name in COLUMNS]
        sql = _ROWS.format(
            columns=", ".join(columns),
            conditions=where,
            seals=where.place(list(ask.snapshot.seals.values())),
            chains=where.place(list(ask.snapshot.seals)),
        )
        async with self._database.reading() as connection:
            return [tuple(row) for row in await connection.fetch(sql, *where.arguments)]

    async def _corrected(self, rows: Sequence[Row], snapshot: Snapshot) -> list[Row]:
        """With what was corrected of each, as far as the snapshot has it."""
        async with self._database.reading() as connection:
            found = await connection.fetch(
                _CORRECTIONS,
                *(rows[0][_AT], rows[-1][_AT]),
                *(list(snapshot.seals.values()), list(snapshot.seals)),
            )
        if not found:
            return [(*row, 0, 0) for row in rows]
        by_id = {row[0]: (row[1], row[2]) for row in found}
        return [(*row, *by_id.get(row[_ID], (0, 0))) for row in rows]

    async def _of_archive(
        self, ask: _Ask, archive: _Archive
    ) -> AsyncIterator[Sequence[Row]]:
        # The ledger takes no more rows of such a day: all there are, are here.
        reader = await asyncio.to_thread(self._open, archive)
        try:
            while (values := await asyncio.to_thread(_next, reader)) is not None:
                rows = [row for row in values if ask.has(row)]
                if shown := await self._shown(ask.query, rows):
                    yield await self._corrected(shown, ask.snapshot)
        finally:
            reader.close()

    async def _shown(
        self, query: ExportQuery, rows: Sequence[Mapping[str, Any]]
    ) -> list[Row]:
        """Archived rows as the ledger itself would answer them."""
        found = [tuple(row[name] for name in COLUMNS) for row in rows]
        if not found or not (query.hidden or query.pseudonymize):
            return found
        where = Where(UsageFilter())
        sql = _METADATA_OF.format(
            texts=where.place([row[_METADATA] for row in found]),
            metadata=_metadata(query, where),
        )
        async with self._database.reading() as connection:
            texts = await connection.fetch(sql, *where.arguments)
        return [
            (*row[:_METADATA], text[0], *row[_METADATA + 1 :])
            for row, text in zip(found, texts, strict=True)
        ]

    def _open(self, archive: _Archive) -> "_Reader":
        if self._folder is None:
            raise ArchiveUnavailable(f"{archive.file}: HUBGATE_ARCHIVE_DIR is not set")
        path = self._folder / archive.file
        try:
            if _sha256(path) != archive.sha256:
                raise ArchiveUnavailable(f"{archive.file} is not what was archived")
            return _Reader(path)
        except (OSError, pa.ArrowException) as error:
            raise ArchiveUnavailable(f"{archive.file}: {error}") from error


class _Reader:
    """An archive's rows by name, a piece at a time."""

    def __init__(self, path: Path) -> None:
        self._file = parquet.ParquetFile(path)
        self._batches: Iterator[Any] = self._file.iter_batches(
            CHUNK_ROWS, columns=[*COLUMNS, "chain", "seal"]
        )

    def next(self) -> list[dict[str, Any]] | None:
        batch = next(self._batches, None)
        return None if batch is None else batch.to_pylist()

    def close(self) -> None:
        self._file.close()


def _next(reader: _Reader) -> list[dict[str, Any]] | None:
    try:
        return reader.next()
    except (OSError, pa.ArrowException) as error:
        raise ArchiveUnavailable(str(error)) from error


def _metadata(query: ExportQuery, where: Where) -> str:
    """What of it is shown, as PostgreSQL's own text of the document."""
    if query.pseudonymize:
        kept = where.place(list(_IMPERSONAL))
        return _KEPT_METADATA.format(kept=kept)
    hidden = [f" #- {where.place(key.split('.'))}::text[]" for key in query.hidden]
    return f"(metadata{''.join(hidden)})::text AS metadata"


def _end_of(
    at: datetime, width: timedelta, archived: Mapping[date, _Archive], span: _Span
) -> datetime:
    """Where a question that begins `at` ends: archived days are asked for alone."""
    day = at.date()
    if day in archived:
        return min(_midnight(day) + timedelta(days=1), span.end)
    ahead = [_midnight(one) for one in archived if one > day]
    return min(_midnight(day) + width, span.end, *ahead)


def _cursor(row: Row) -> Cursor:
    return Cursor(row[_AT], row[_ID])


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while content := file.read(_READ_BYTES):
            digest.update(content)
    return digest.hexdigest()
