"""The ledger in PostgreSQL: COPY to a scratch table, then INSERT what is new."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import asyncpg

from runtime.contracts import TABLE_USAGE_LOGS
from runtime.logs import get_logger
from runtime.postgres import DatabaseRejected, DatabaseUnavailable, wrap_errors
from usage_sink.errors import LedgerUnavailable
from usage_sink.records import COLUMNS, Misfit, UsageRecord
from usage_sink.schema import TABLE_QUARANTINE
from usage_sink.store import Written, misfit_of
from usage_sink.values import clean

log = get_logger(__name__)

_SCRATCH: Final = "usage_scratch"
_COLUMN_LIST: Final = ", ".join(COLUMNS)

# One scratch table per session, emptied by each commit: making and dropping one for
# every batch would bloat the catalogue. It has no constraints: the ledger judges.
_MAKE_SCRATCH: Final = f"""
CREATE TEMPORARY TABLE IF NOT EXISTS {_SCRATCH} ON COMMIT DELETE ROWS
AS SELECT {_COLUMN_LIST} FROM {TABLE_USAGE_LOGS} WITH NO DATA
"""  # noqa: S608 - names of ours

# Ordered, so that two sinks that write the same batch can't deadlock.
_INSERT_NEW: Final = f"""
INSERT INTO {TABLE_USAGE_LOGS} ({_COLUMN_LIST})
SELECT {_COLUMN_LIST} FROM {_SCRATCH} ORDER BY id
ON CONFLICT DO NOTHING
"""  # noqa: S608 - names of ours

_QUARANTINE: Final = f"""
INSERT INTO {TABLE_QUARANTINE} (digest, reason, attributes)
SELECT * FROM unnest($1::bytea[], $2::text[], $3::jsonb[])
ON CONFLICT DO NOTHING
"""  # noqa: S608 - names of ours

_VALUE_LIMIT: Final = 1024
_ATTRIBUTE_LIMIT: Final = 64


class PostgresUsageStore:
    """Writes through `pool`; one transaction for each call that meets no poison."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def write(self, records: Sequence[UsageRecord]) -> Written:
        """Write `records`; when the database refuses them, halve until it does not.

        A batch of n with one poison row costs about 2 log2 n transactions.
        """
        if not records:
            return Written()
        try:
            new = await self._copy(records)
        except DatabaseRejected as error:
            if len(records) == 1:
                return await self._give_up(records[0], str(error))
        else:
            return Written(new, len(records) - new)
        middle = len(records) // 2
        first = await self.write(records[:middle])
        second = await self.write(records[middle:])
        return Written(
            first.new + second.new,
            first.known + second.known,
            first.quarantined + second.quarantined,
        )

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
            )

    async def _copy(self, records: Sequence[UsageRecord]) -> int:
        with _ledger_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_MAKE_SCRATCH)
                await connection.copy_records_to_table(
                    _SCRATCH,
                    schema_name="pg_temp",
                    columns=COLUMNS,
                    records=(record.row() for record in records),
                )
                status = await connection.execute(_INSERT_NEW)
        return int(status.rpartition(" ")[2])

    async def _give_up(self, record: UsageRecord, error: str) -> Written:
        # The further lines quote the row as it would have been, with the time of the
        # attempt: with them a replay would be a new misfit.
        error = error.partition("\n")[0]
        log.error("record refused by the database", id=str(record.event.id), why=error)
        await self.quarantine([misfit_of(record, f"refused by the database: {error}")])
        return Written(quarantined=1)


@contextmanager
def _ledger_errors() -> Iterator[None]:
    try:
        with wrap_errors():
            yield
    except DatabaseUnavailable as error:
        raise LedgerUnavailable(str(error)) from error
    except (OverflowError, TypeError, ValueError) as error:
        # COPY is encoded on our side, and asyncpg lets the encoder's error through.
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
