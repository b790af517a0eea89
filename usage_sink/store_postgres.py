"""The ledger in PostgreSQL.

One transaction for a batch: COPY to a scratch table, INSERT what is new, add it to
the rollups, seal it. Either all of that is there afterwards, or none.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

from runtime.clock import Clock, SystemClock
from runtime.contracts import UsageSource
from runtime.logs import get_logger
from runtime.postgres import DatabaseRejected
from usage_sink import copied, tiers
from usage_sink import store_sql as sql
from usage_sink.adjustments import SETTLED_LATE, Adjustment
from usage_sink.chain import Chain, State
from usage_sink.plain import Record
from usage_sink.records import Misfit, UsageRecord
from usage_sink.sealing import Connection, Sealing, ledger_errors
from usage_sink.seals import Batch, SealKind
from usage_sink.store import Written, misfit_of
from usage_sink.values import clean

log = get_logger(__name__)

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
        self._node = chain.node
        self._sealing = Sealing(pool, chain)
        self._clock = clock or SystemClock()
        self._days: set[date] = set()
        #: The last batch had rows that were there: so may the next.
        self._expects_known = False

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

        async def insert(connection: Connection, state: State) -> list[Batch]:
            place = (state.chain, state.seal + 1)
            rows = [(*_adjustment_row(one), *place) for one in adjustments]
            days = {_day(one.usage_created_at) for one in adjustments}
            await connection.execute(tiers.make_stale(days))
            columns = [list(column) for column in zip(*rows, strict=True)]
            found = await connection.fetch(sql.ADJUST, *columns)
            return _batches(found, SealKind.ADJUSTMENT)

        return sum(batch.rows for batch in await self._sealing.run(insert))

    async def quarantine(self, misfits: Sequence[Misfit]) -> None:
        if not misfits:
            return
        rows = [_misfit_row(misfit) for misfit in misfits]
        with ledger_errors():
            await self._pool.execute(
                sql.QUARANTINE,
                [digest for digest, _, _ in rows],
                [reason for _, reason, _ in rows],
                [attributes for _, _, attributes in rows],
                self._node,
            )

    async def _copy_new(self, records: Sequence[Record], days: set[date]) -> int:
        """Write what is new; returns how many that was."""
        has_reported = any(map(_is_reported, records))
        if not (has_reported or self._expects_known):
            try:
                return await self._copy(records, days, sql.INSERT_ALL)
            except DatabaseRejected as error:
                if not isinstance(error.__cause__, asyncpg.UniqueViolationError):
                    raise
        new = await self._copy(records, days, sql.INSERT_NEW)
        self._expects_known = new < len(records)
        return new

    async def _copy(
        self, records: Sequence[Record], days: set[date], insert_rows: str
    ) -> int:
        places = {day: place for place, day in enumerate(sorted(days), start=1)}

        async def copy(connection: Connection) -> None:
            await connection.execute(sql.MAKE_SCRATCH)
            await connection.copy_to_table(
                sql.SCRATCH,
                schema_name="pg_temp",
                columns=sql.COPIED,
                source=_rows(records, places),
                format="binary",
            )

        async def insert(connection: Connection, state: State) -> list[Batch]:
            await connection.execute(tiers.make_stale(days))
            if any(map(_is_reported, records)):
                await connection.execute(sql.NOTE_REPORTED, UsageSource.REPORTED.value)
                await connection.execute(sql.DROP_REPEATED, UsageSource.REPORTED.value)
            found = await connection.fetch(insert_rows, state.chain, state.seal)
            day_of = {state.seal + place: day for day, place in places.items()}
            batches = _batches(found, SealKind.USAGE, day_of)
            if sum(batch.rows for batch in batches) < len(records):
                place = (state.chain, state.seal + len(days) + 1)
                late = await connection.fetch(sql.SETTLE_LATE, SETTLED_LATE, *place)
                batches += _batches(late, SealKind.ADJUSTMENT)
            return batches

        written = await self._sealing.run(insert, prepare=copy)
        return sum(one.rows for one in written if one.kind is SealKind.USAGE)

    async def _archived_days(self, days: set[date]) -> set[date]:
        today = datetime.fromtimestamp(self._clock.now(), UTC).date()
        closed = {day for day in days if day <= today - _OPEN_DAYS}
        if not closed:
            return set()
        with ledger_errors():
            found = await self._pool.fetch(sql.ARCHIVED, sorted(closed))
        return {row["day"] for row in found}

    async def _make_days(self, days: set[date]) -> None:
        """A partition for each day of the last weeks; else its rows share one."""
        today = datetime.fromtimestamp(self._clock.now(), UTC).date()
        for day in days - self._days:
            self._days.add(day)
            if today - _REPORTED_DAYS <= day <= today:
                try:
                    with ledger_errors():
                        await self._pool.execute(sql.MAKE_DAY, day)
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
    """The content of the scratch table, in the order of sql.COPIED."""
    begin = copied.count(len(sql.COPIED))
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
    """Values in the order of sql.ADJUST, but for chain and seal."""
    return (
        *(uuid4(), one.usage_id, one.usage_created_at, one.tokens, one.input_tokens),
        *(one.output_tokens, one.cached_tokens, one.reasoning_tokens, one.credits),
        *(one.price_version, one.reason, one.author, json.dumps(dict(one.metadata))),
    )


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
