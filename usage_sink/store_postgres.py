"""The ledger in PostgreSQL.

One transaction for a batch: COPY to a scratch table, INSERT what is new, add it to
the rollups, seal it. Either all of that is there afterwards, or none.
"""

import asyncio
import hashlib
import json
import struct
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

from runtime.clock import Clock, SystemClock
from runtime.contracts import TABLE_USAGE_ADJUSTMENTS, TABLE_USAGE_LOGS, UsageSource
from runtime.logs import get_logger
from runtime.postgres import DatabaseRejected, DatabaseUnavailable, wrap_errors
from usage_sink import copied, rollups, tiers
from usage_sink.adjustments import SETTLED_LATE, Adjustment
from usage_sink.chain import Chain, State
from usage_sink.errors import LedgerUnavailable
from usage_sink.plain import Record
from usage_sink.records import COLUMNS, Misfit, UsageRecord
from usage_sink.seals import Batch, SealKind, rows_digest
from usage_sink.store import Written, misfit_of
from usage_sink.tables import TABLE_ARCHIVES, TABLE_QUARANTINE, TABLE_REPORT_IDS
from usage_sink.values import clean

log = get_logger(__name__)

_Connection = asyncpg.pool.PoolConnectionProxy

_SCRATCH: Final = "usage_scratch"
_WRITTEN: Final = (*COLUMNS, "chain", "seal")
_COLUMN_LIST: Final = ", ".join(_WRITTEN)
_COPIED: Final = (*COLUMNS, "seal")

# One scratch table per session, emptied by each commit: making and dropping one for
# every batch would bloat the catalogue. It has no constraints: the ledger judges.
# Its `chain` is not known yet, its `seal` is the place of the row's day in the batch.
# The new rows of a large batch, which are read four times, stay in memory.
_MAKE_SCRATCH: Final = f"""
SET LOCAL work_mem = '16MB';
CREATE TEMPORARY TABLE IF NOT EXISTS {_SCRATCH} ON COMMIT DELETE ROWS
AS SELECT {_COLUMN_LIST} FROM {TABLE_USAGE_LOGS} WITH NO DATA
"""


def _insert_new(on_conflict: str) -> str:
    """Ordered, so that two sinks that write the same batch can't deadlock.

    What is summed and sealed is what was inserted, as the database holds it.
    """
    return f"""
WITH new AS (
    INSERT INTO {TABLE_USAGE_LOGS} ({_COLUMN_LIST})
    SELECT {", ".join(COLUMNS)}, $1::int, $2::bigint + seal FROM {_SCRATCH} ORDER BY id
    {on_conflict} RETURNING *
), hourly AS ({rollups.add(rollups.HOURLY, "new")}
), totals AS ({rollups.add(rollups.TOTALS, "new")}
), minutes AS ({rollups.add(rollups.MINUTES, "new")}
)
SELECT seal, count(*) AS rows, {rows_digest(SealKind.USAGE)} AS digest, now() AS at
FROM new GROUP BY seal
"""


#: Of rows that are all new; else nothing is written. To look for each first costs
#: 1.2 us a row, for what comes after a crash or from a forgetful reporter only.
_INSERT_ALL: Final = _insert_new("")
_INSERT_NEW: Final = _insert_new("ON CONFLICT DO NOTHING")

# The first time that was reported for an id counts: a caller that asks the clock
# again for each attempt would otherwise be charged for each.
_NOTE_REPORTED: Final = f"""
INSERT INTO {TABLE_REPORT_IDS} (id, created_at)
SELECT id, min(created_at) FROM {_SCRATCH} WHERE usage_source = $1
GROUP BY id ORDER BY id ON CONFLICT DO NOTHING
"""
_DROP_REPEATED: Final = f"""
DELETE FROM {_SCRATCH} s USING {TABLE_REPORT_IDS} r
WHERE s.usage_source = $1 AND s.id = r.id AND s.created_at <> r.created_at
"""

_ADJUSTMENT_COLUMNS: Final = (
    *("id", "usage_id", "usage_created_at", "tokens", "input_tokens"),
    *("output_tokens", "cached_tokens", "reasoning_tokens", "credits"),
    *("price_version", "reason", "author", "metadata", "chain", "seal"),
)


def _adjust(source: str) -> str:
    return f"""
WITH new AS (
    INSERT INTO {TABLE_USAGE_ADJUSTMENTS} ({", ".join(_ADJUSTMENT_COLUMNS)})
    {source}
    ON CONFLICT DO NOTHING RETURNING *
), hourly AS ({rollups.add_adjusted(rollups.HOURLY, "new")}
), totals AS ({rollups.add_adjusted(rollups.TOTALS, "new")}
)
SELECT seal, count(*) AS rows, {rows_digest(SealKind.ADJUSTMENT)} AS digest, now() AS at
FROM new GROUP BY seal
"""


_SETTLE_LATE: Final = _adjust(f"""
    SELECT DISTINCT ON (s.id) gen_random_uuid(), s.id, s.created_at,
        s.tokens - l.tokens, coalesce(s.input_tokens, 0), coalesce(s.output_tokens, 0),
        coalesce(s.cached_tokens, 0), coalesce(s.reasoning_tokens, 0),
        s.credits - l.credits, coalesce(s.price_version, ''), $1, 'usage_sink',
        jsonb_build_object(
            'status', s.status, 'outcome', s.outcome, 'durationMs', s.duration_ms,
            'service', s.service, 'model', s.model, 'usageSource', s.usage_source,
            'pricing', s.pricing, 'billing', s.metadata -> 'billing'),
        $2::int, $3::bigint
    FROM {_SCRATCH} s JOIN {TABLE_USAGE_LOGS} l USING (id, created_at)
    WHERE l.outcome = 'unsettled' AND s.outcome <> 'unsettled'
    ORDER BY s.id
""")

_ADJUST: Final = _adjust(
    "SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::int[], "
    "$5::int[], $6::int[], $7::int[], $8::int[], $9::int[], $10::text[], $11::text[], "
    "$12::text[], $13::jsonb[], $14::int[], $15::bigint[]) AS given ORDER BY 2"
)

_ARCHIVED: Final = f"""
SELECT day FROM {TABLE_ARCHIVES}
WHERE day = ANY ($1::date[]) AND dropped_at IS NOT NULL AND restored_at IS NULL
"""

_QUARANTINE: Final = f"""
WITH new AS (
    INSERT INTO {TABLE_QUARANTINE} (digest, reason, attributes)
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::jsonb[])
    ON CONFLICT DO NOTHING RETURNING 1
)
INSERT INTO usage_minutes AS t (node, minute, quarantined)
SELECT $4, date_bin('1 minute', now(), '2000-01-01+00'), count(*) FROM new
HAVING count(*) > 0
ON CONFLICT (node, minute) DO UPDATE SET
    quarantined = t.quarantined + excluded.quarantined
"""

_MAKE_DAY: Final = "SELECT usage_logs_make_partition($1)"
#: As old as a reported call may be (`reports`); others come at once or by replay.
_REPORTED_DAYS: Final = timedelta(days=36)

_VALUE_LIMIT: Final = 1024
_ATTRIBUTE_LIMIT: Final = 64
#: Days that can't be archived yet (`usage_logs_drop_archived` refuses them).
_OPEN_DAYS: Final = timedelta(days=2)


class PostgresUsageStore:
    """Writes through `pool`, in the order of calls; seals with `chain`."""

    def __init__(
        self, pool: asyncpg.Pool, chain: Chain, clock: Clock | None = None
    ) -> None:
        self._pool = pool
        self._chain = chain
        self._clock = clock or SystemClock()
        self._days: set[date] = set()
        #: The last batch had rows that were there: so may the next.
        self._expects_known = False
        # The head of one transaction is the beginning of the next; what needs no head
        # is done while another has its turn. Both are had in the order of calls.
        self._before_turn = asyncio.Lock()
        self._turn = asyncio.Lock()

    async def write(self, records: Sequence[Record]) -> Written:
        """Write `records`; when the database refuses them, halve until it does not.

        A batch of n with one poison row costs about 2 log2 n transactions.
        """
        if not records:
            return Written()
        days = {record.day for record in records}
        gone = await self._archived_days(days)
        if gone:
            return await self._without_archived(records, gone)
        await self._make_days(days)
        try:
            new = await self._copy_new(records, days)
        except DatabaseRejected as error:
            if len(records) == 1:
                return await self._give_up(
                    records[0], f"refused by the database: {_brief(error)}"
                )
        else:
            return Written(new, len(records) - new)
        middle = len(records) // 2
        first = await self.write(records[:middle])
        return first + await self.write(records[middle:])

    async def adjust(self, adjustments: Sequence[Adjustment]) -> int:
        """Keep corrections; returns how many are new.

        Raises:
            LedgerUnavailable: not written, or not known to be.
            DatabaseRejected: one of them can't be kept; none is.
        """
        if not adjustments:
            return 0

        async def insert(connection: _Connection, state: State) -> list[Batch]:
            place = (state.chain, state.seal + 1)
            rows = [(*_adjustment_row(one), *place) for one in adjustments]
            days = {_day(one.usage_created_at) for one in adjustments}
            await connection.execute(tiers.make_stale(days))
            columns = [list(column) for column in zip(*rows, strict=True)]
            found = await connection.fetch(_ADJUST, *columns)
            return _batches(found, SealKind.ADJUSTMENT)

        return sum(batch.rows for batch in await self._sealed(insert))

    async def quarantine(self, misfits: Sequence[Misfit]) -> None:
        if not misfits:
            return
        rows = [_misfit_row(misfit) for misfit in misfits]
        with _ledger_errors():
            await self._pool.execute(
                _QUARANTINE,
                [digest for digest, _, _ in rows],
                [reason for _, reason, _ in rows],
                [attributes for _, _, attributes in rows],
                self._chain.node,
            )

    async def _copy_new(self, records: Sequence[Record], days: set[date]) -> int:
        """Write what is new; returns how many that was."""
        has_reported = any(map(_is_reported, records))
        if not (has_reported or self._expects_known):
            try:
                return await self._copy(records, days, _INSERT_ALL)
            except DatabaseRejected as error:
                if not isinstance(error.__cause__, asyncpg.UniqueViolationError):
                    raise
        new = await self._copy(records, days, _INSERT_NEW)
        self._expects_known = new < len(records)
        return new

    async def _copy(
        self, records: Sequence[Record], days: set[date], insert_rows: str
    ) -> int:
        places = {day: place for place, day in enumerate(sorted(days), start=1)}

        async def copy(connection: _Connection) -> None:
            await connection.execute(_MAKE_SCRATCH)
            await connection.copy_to_table(
                _SCRATCH,
                schema_name="pg_temp",
                columns=_COPIED,
                source=_rows(records, places),
                format="binary",
            )

        async def insert(connection: _Connection, state: State) -> list[Batch]:
            await connection.execute(tiers.make_stale(days))
            if any(map(_is_reported, records)):
                await connection.execute(_NOTE_REPORTED, UsageSource.REPORTED.value)
                await connection.execute(_DROP_REPEATED, UsageSource.REPORTED.value)
            found = await connection.fetch(insert_rows, state.chain, state.seal)
            day_of = {state.seal + place: day for day, place in places.items()}
            batches = _batches(found, SealKind.USAGE, day_of)
            if sum(batch.rows for batch in batches) < len(records):
                place = (state.chain, state.seal + len(days) + 1)
                late = await connection.fetch(_SETTLE_LATE, SETTLED_LATE, *place)
                batches += _batches(late, SealKind.ADJUSTMENT)
            return batches

        written = await self._sealed(insert, prepare=copy)
        return sum(one.rows for one in written if one.kind is SealKind.USAGE)

    async def _sealed(
        self,
        insert: Callable[[_Connection, State], Awaitable[list[Batch]]],
        *,
        prepare: Callable[[_Connection], Awaitable[None]] | None = None,
    ) -> list[Batch]:
        """Run `prepare`, then `insert` and seal what it returns, in one transaction."""
        async with AsyncExitStack() as turn, AsyncExitStack() as before_turn:
            await before_turn.enter_async_context(self._before_turn)
            has_turn = False
            try:
                with _ledger_errors():
                    async with (
                        self._pool.acquire() as connection,
                        connection.transaction(),
                    ):
                        if prepare is not None:
                            await prepare(connection)
                        await turn.enter_async_context(self._turn)
                        has_turn = True
                        await before_turn.aclose()
                        state = await self._chain.state(connection)
                        batches = await insert(connection, state)
                        seals = await self._chain.seal(connection, batches)
            except BaseException:
                if has_turn:
                    self._chain.forget()
                raise
            self._chain.committed(seals)
        return batches

    async def _archived_days(self, days: set[date]) -> set[date]:
        today = datetime.fromtimestamp(self._clock.now(), UTC).date()
        closed = {day for day in days if day <= today - _OPEN_DAYS}
        if not closed:
            return set()
        with _ledger_errors():
            found = await self._pool.fetch(_ARCHIVED, sorted(closed))
        return {row["day"] for row in found}

    async def _make_days(self, days: set[date]) -> None:
        """A partition for each day of the last weeks; else its rows share one."""
        today = datetime.fromtimestamp(self._clock.now(), UTC).date()
        for day in days - self._days:
            self._days.add(day)
            if today - _REPORTED_DAYS <= day <= today:
                try:
                    with _ledger_errors():
                        await self._pool.execute(_MAKE_DAY, day)
                except DatabaseRejected as error:
                    log.warning("no partition", day=str(day), why=_brief(error))

    async def _without_archived(
        self, records: Sequence[Record], gone: set[date]
    ) -> Written:
        """Write the others; a second copy of what is archived would count twice."""
        written = Written()
        for record in records:
            if record.day in gone:
                written += await self._give_up(record, "its day is archived")
        others = [one for one in records if one.day not in gone]
        return written + await self.write(others)

    async def _give_up(self, record: Record, reason: str) -> Written:
        log.error("record not written", id=str(UUID(int=record.id)), why=reason)
        await self.quarantine([misfit_of(record, reason)])
        return Written(quarantined=1)


async def _rows(
    records: Iterable[Record], places: Mapping[date, int]
) -> AsyncIterator[bytes]:
    """The content of the scratch table, in the order of _COPIED."""
    begin = copied.count(len(_COPIED))
    ends = {day: copied.int8(place) for day, place in places.items()}
    for some in copied.stream(begin + one.copied() + ends[one.day] for one in records):
        yield some


def _is_reported(record: Record) -> bool:
    return (
        isinstance(record, UsageRecord)
        and record.event.usage.source is UsageSource.REPORTED
    )


def _day(at: datetime) -> date:
    return at.astimezone(UTC).date()


def _brief(error: DatabaseRejected) -> str:
    # The further lines quote the row as it would have been, with the time of the
    # attempt: with them a replay would be a new misfit.
    return str(error).partition("\n")[0]


def _batches(
    rows: Sequence[asyncpg.Record],
    kind: SealKind,
    days: Mapping[int, date] = MappingProxyType({}),
) -> list[Batch]:
    return [
        Batch(
            seal=row["seal"],
            kind=kind,
            day=days.get(row["seal"], row["at"].astimezone(UTC).date()),
            rows=row["rows"],
            digest=row["digest"],
            sealed_at=row["at"],
        )
        for row in rows
    ]


def _adjustment_row(one: Adjustment) -> tuple[Any, ...]:
    """Values in the order of _ADJUSTMENT_COLUMNS, but for chain and seal."""
    return (
        *(uuid4(), one.usage_id, one.usage_created_at, one.tokens, one.input_tokens),
        *(one.output_tokens, one.cached_tokens, one.reasoning_tokens, one.credits),
        *(one.price_version, one.reason, one.author, json.dumps(dict(one.metadata))),
    )


@contextmanager
def _ledger_errors() -> Iterator[None]:
    try:
        with wrap_errors():
            yield
    except DatabaseUnavailable as error:
        raise LedgerUnavailable(str(error)) from error
    except (AttributeError, TypeError, ValueError, struct.error) as error:
        # COPY is encoded on our side (`copied`).
        raise DatabaseRejected(str(error)) from error


def _misfit_row(misfit: Misfit) -> tuple[bytes, str, str]:
    kept = list(misfit.attributes.items())[:_ATTRIBUTE_LIMIT]
    attributes = json.dumps(
        {clean(key)[:_VALUE_LIMIT]: clean(value)[:_VALUE_LIMIT] for key, value in kept},
        ensure_ascii=False,
        sort_keys=True,
    )
    reason = clean(misfit.reason)[:_VALUE_LIMIT]
    return (
        hashlib.sha256(f"{reason}\n{attributes}".encode()).digest(),
        reason,
        attributes,
    )
