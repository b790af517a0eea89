"""Rows of an export out of the ledger and its archives, in the order of their time.

They are read in pieces that are questions of their own, each bounded by the snapshot's
seals: no transaction stays open while a slow client reads. After each piece it is asked
whether a day of it has been archived meanwhile; then that day comes from its file.
"""

import io
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import pyarrow as pa
from pyarrow import csv

from control.arrow_thread import in_arrow_thread
from control.completeness import through
from control.database import Database
from control.export import EXPORTED, ExportQuery, Snapshot
from control.export_archives import (
    CHUNK_ROWS,
    STORED,
    Archive,
    Ask,
    next_rows,
    open_archive,
)
from control.export_files import SCHEMA
from control.store import UsageQueries
from control.usage import (
    COLUMNS,
    Cursor,
    Sort,
    UsageFilter,
    camel,
)
from control.usage_sql import BY_INDEX, Where
from runtime.contracts import (
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_ARCHIVES,
    TABLE_USAGE_CHAINS,
    TABLE_USAGE_LOGS,
    TABLE_USAGE_SEALS,
    USAGE_DAY_IS_AWAY,
)

#: One question looks at so much: of one user an index finds the rows.
_WINDOW: Final = timedelta(days=1)
_WINDOW_OF_ONE: Final = timedelta(days=31)
#: All that may leave the house of a pseudonymous row's metadata.
_IMPERSONAL: Final = ("response", "provider", "billing")

_AT: Final = EXPORTED.index("created_at")
_ID: Final = EXPORTED.index("id")
_METADATA: Final = EXPORTED.index("metadata")

#: Instants are sent as microseconds: quick to read, and nothing is lost.
_MICROSECONDS: Final = {
    name: f"(extract(epoch FROM {name}) * 1000000)::bigint"
    for name in ("created_at", "recorded_at")
}
_SENT: Final = {camel(name): pa.int64() for name in _MICROSECONDS}
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
WHERE day BETWEEN $1 AND $2 AND {USAGE_DAY_IS_AWAY}
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


@dataclass(frozen=True, slots=True)
class _Span:
    start: datetime
    end: datetime


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
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        span = await self._span(query.chosen)
        archived = await self._archived(span)
        width = _WINDOW if query.chosen.user_id is None else _WINDOW_OF_ONE
        at, cursor = span.start, _BEFORE_ALL
        while at < span.end:
            ask = Ask(query, snapshot, at, _end_of(at, width, archived, span), cursor)
            if archive := archived.get(at.date()):
                async for rows in self._of_archive(ask, archive):
                    yield rows
                at = ask.end
                continue
            rows = await self._piece(ask)
            if await self._archived(_Span(ask.start, ask.end)):
                archived = await self._archived(span)
                continue
            if rows.num_rows:
                cursor = _cursor(rows)
                yield await self._corrected(rows, snapshot)
            if rows.num_rows < CHUNK_ROWS:
                at = ask.end

    async def _span(self, chosen: UsageFilter) -> _Span:
        async with self._database.reading() as connection:
            first, last = await connection.fetchrow(_FIRST_AND_LAST) or (None, None)
        if first is None or last is None:
            return _Span(_midnight(date(2000, 1, 1)), _midnight(date(2000, 1, 1)))
        after = last + timedelta(microseconds=1)
        return _Span(max(chosen.start or first, first), min(chosen.end or after, after))

    async def _archived(self, span: _Span) -> dict[date, Archive]:
        last = (span.end - timedelta(microseconds=1)).date()
        async with self._database.reading() as connection:
            found = await connection.fetch(_ARCHIVED, span.start.date(), last)
        return {row["day"]: Archive(row["file"], row["sha256"]) for row in found}

    async def _piece(self, ask: Ask) -> pa.RecordBatch:
        """COPY: the server and Arrow do what Python would take longer for."""
        chosen = replace(ask.query.chosen, start=ask.start, end=ask.end)
        where = Where(chosen)
        if ask.cursor is not _BEFORE_ALL:
            where.add_cursor(ask.cursor, Sort.OLDEST)
        special = {"metadata": _metadata(ask.query, where), **_MICROSECONDS}
        sql = _ROWS.format(
            columns=", ".join(special.get(name, name) for name in COLUMNS),
            conditions=where,
            seals=where.place(list(ask.snapshot.seals.values())),
            chains=where.place(list(ask.snapshot.seals)),
        )
        text = io.BytesIO()

        async def keep(data: bytes) -> None:
            text.write(data)

        async with self._database.reading() as connection, connection.transaction():
            await connection.execute(BY_INDEX)
            await connection.copy_from_query(
                sql, *where.arguments, output=keep, format="csv"
            )
        return await in_arrow_thread(_read, text.getbuffer())

    async def _corrected(
        self, rows: pa.RecordBatch, snapshot: Snapshot
    ) -> pa.RecordBatch:
        """With what was corrected of each, as far as the snapshot has it."""
        async with self._database.reading() as connection:
            found = await connection.fetch(
                _CORRECTIONS,
                *(rows.column(_AT)[0].as_py(), rows.column(_AT)[-1].as_py()),
                *(list(snapshot.seals.values()), list(snapshot.seals)),
            )
        arrays = list(rows.columns)
        by_id = {str(row[0]): (row[1], row[2]) for row in found}
        ids = rows.column(_ID).to_pylist() if by_id else ()
        for place in range(2):
            sums = [by_id.get(id_, (0, 0))[place] for id_ in ids]
            arrays.append(pa.array(sums or [0] * rows.num_rows, pa.int64()))
        return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)

    async def _of_archive(
        self, ask: Ask, archive: Archive
    ) -> AsyncIterator[pa.RecordBatch]:
        # The ledger takes no more rows of such a day: all there are, are here.
        reader = await in_arrow_thread(open_archive, self._folder, archive)
        try:
            while (rows := await in_arrow_thread(next_rows, reader, ask)) is not None:
                if rows.num_rows:
                    shown = await self._shown(ask.query, rows)
                    yield await self._corrected(shown, ask.snapshot)
        finally:
            reader.close()

    async def _shown(self, query: ExportQuery, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Archived rows as the ledger itself would answer them."""
        if not (query.hidden or query.pseudonymize):
            return rows
        where = Where(UsageFilter())
        sql = _METADATA_OF.format(
            texts=where.place(rows.column(_METADATA).to_pylist()),
            metadata=_metadata(query, where),
        )
        async with self._database.reading() as connection:
            texts = await connection.fetch(sql, *where.arguments)
        arrays = list(rows.columns)
        arrays[_METADATA] = pa.array([text[0] for text in texts], pa.string())
        return pa.RecordBatch.from_arrays(arrays, schema=STORED)


def _read(text: memoryview) -> pa.RecordBatch:
    """PostgreSQL's CSV: an empty field is null, an empty text is quoted."""
    if not text:
        return pa.RecordBatch.from_pylist([], schema=STORED)
    (rows,) = csv.read_csv(
        pa.BufferReader(text),
        csv.ReadOptions(
            use_threads=False, block_size=len(text), column_names=STORED.names
        ),
        csv.ParseOptions(newlines_in_values=True),
        csv.ConvertOptions(
            column_types={one.name: _SENT.get(one.name, one.type) for one in STORED},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    ).to_batches()
    arrays = [
        column.view(field.type)
        for column, field in zip(rows.columns, STORED, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=STORED)


def _metadata(query: ExportQuery, where: Where) -> str:
    """What of it is shown, as PostgreSQL's own text of the document."""
    if query.pseudonymize:
        kept = where.place(list(_IMPERSONAL))
        return _KEPT_METADATA.format(kept=kept)
    hidden = [f" #- {where.place(key.split('.'))}::text[]" for key in query.hidden]
    return f"(metadata{''.join(hidden)})::text AS metadata"


def _end_of(
    at: datetime, width: timedelta, archived: Mapping[date, Archive], span: _Span
) -> datetime:
    """Where a question that begins `at` ends: archived days are asked for alone."""
    day = at.date()
    if day in archived:
        return min(_midnight(day) + timedelta(days=1), span.end)
    ahead = [_midnight(one) for one in archived if one > day]
    return min(_midnight(day) + width, span.end, *ahead)


def _cursor(rows: pa.RecordBatch) -> Cursor:
    """Behind the last row."""
    return Cursor(rows.column(_AT)[-1].as_py(), UUID(rows.column(_ID)[-1].as_py()))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
