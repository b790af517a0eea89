"""Closed days of the ledger become Parquet files, are read back, and only then dropped.

For each day, in this order; whatever dies in between, the next run begins that day
again, because its partition is still there:

1. Its rows and its seals are written beside their place, in one snapshot, and synced.
2. The file is read back into a scratch table: the same rows and sums, and for every
   seal of that day the digest of exactly its rows. A day that was tampered with is
   found here and stays where it is.
3. The files get their names, the manifest last.
4. The day is noted in `usage_archives`, then dropped by a function of the owner that
   counts once more: a row that came meanwhile makes it refuse.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import asyncpg

from runtime.contracts import (
    TABLE_USAGE_ARCHIVES,
    TABLE_USAGE_CHAINS,
    TABLE_USAGE_LOGS,
    TABLE_USAGE_SEALS,
    USAGE_DAY_IS_AWAY,
)
from runtime.logs import get_logger
from runtime.postgres import version_table
from usage_sink import manifest, parquet, read_back
from usage_sink.days import bounds
from usage_sink.errors import ArchiveDamaged, ArchiverBusy
from usage_sink.manifest import Manifest, Sums
from usage_sink.seals import SealKind

log = get_logger(__name__)

#: One archiver at a time ("huba" in ASCII).
LOCK: Final = 0x68756261
#: Dropping waits for every query of that day, and every writer waits for it.
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '3s'"

_PARTITIONS: Final = """
SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass($1) AND c.relname ~ '_[0-9]{8}$' ORDER BY day
"""
_RESTORED: Final = (
    f"SELECT day FROM {TABLE_USAGE_ARCHIVES} WHERE restored_at IS NOT NULL"
)

_ROWS: Final = f"""
SELECT {", ".join(parquet.STORED)}, billable FROM {TABLE_USAGE_LOGS}
WHERE created_at >= $1 AND created_at < $2 ORDER BY created_at, id
"""
_SEALS: Final = f"""
SELECT name, chain, seal, rows, digest, previous, head, sealed_at
FROM {TABLE_USAGE_SEALS} JOIN {TABLE_USAGE_CHAINS} USING (chain)
WHERE day = $1 AND kind = '{SealKind.USAGE}' ORDER BY chain, seal
"""

_NOTE: Final = f"""
INSERT INTO {TABLE_USAGE_ARCHIVES} AS a (day, file, rows, tokens, credits, sha256)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (day) DO UPDATE SET file = excluded.file, rows = excluded.rows,
    tokens = excluded.tokens, credits = excluded.credits, sha256 = excluded.sha256,
    archived_at = now()
WHERE a.dropped_at IS NULL OR a.restored_at IS NOT NULL
"""
_AWAY: Final = f"""
SELECT rows, tokens, credits FROM {TABLE_USAGE_ARCHIVES}
WHERE day = $1 AND {USAGE_DAY_IS_AWAY}
"""


class Fate(StrEnum):
    """What became of a day."""

    DROPPED = "archived and dropped"
    KEPT = "archived, not dropped"
    REFUSED = "not archived"


@dataclass(frozen=True, slots=True)
class Archived:
    """One day's fate, and why when it is still there."""

    day: date
    fate: Fate
    sums: Sums | None = None
    why: str = ""


async def archive(
    connection: asyncpg.Connection, folder: Path, days: Sequence[date]
) -> AsyncIterator[Archived]:
    """Archive `days` one after the other; one that can't be does not stop the others.

    Raises:
        ArchiverBusy: another process does this now.
        OSError: `folder` can't be written; what was dropped before is archived.
    """
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
        raise ArchiverBusy
    try:
        for day in days:
            yield await _archive(connection, folder, day)
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def days_due(
    connection: asyncpg.Connection, now: datetime, keep_days: int
) -> list[date]:
    """Days whose partition is older than `keep_days`, without those restored."""
    before = now.astimezone(UTC).date() - timedelta(days=keep_days)
    restored = {row["day"] for row in await connection.fetch(_RESTORED)}
    return [
        day
        for day in await _partitions(connection)
        if day < before and day not in restored
    ]


async def _partitions(connection: asyncpg.Connection) -> list[date]:
    found = await connection.fetch(_PARTITIONS, TABLE_USAGE_LOGS)
    return [row["day"] for row in found]


async def _archive(connection: asyncpg.Connection, folder: Path, day: date) -> Archived:
    away = await connection.fetchrow(_AWAY, day)
    if away is not None:
        # Its file must never be written again: the rows are nowhere else.
        return Archived(day, Fate.DROPPED, Sums(*tuple(away)), "before")
    if day not in await _partitions(connection):
        return Archived(day, Fate.REFUSED, why="it has no partition of its own")
    try:
        written = await _write(connection, folder, day)
    except ArchiveDamaged as error:
        log.error("day not archived", day=str(day), why=str(error))  # noqa: TRY400 - expected, no traceback
        return Archived(day, Fate.REFUSED, why=str(error))
    await connection.execute(_NOTE, day, written.file, *written.noted())
    try:
        async with connection.transaction():
            await connection.execute(_LOCK_TIMEOUT)
            await connection.execute("SELECT usage_logs_drop_archived($1)", day)
    except (asyncpg.RestrictViolationError, asyncpg.LockNotAvailableError) as error:
        log.warning("day not dropped yet", day=str(day), why=str(error))
        return Archived(day, Fate.KEPT, written.sums, str(error))
    log.info("day archived", day=str(day), rows=written.sums.rows)
    return Archived(day, Fate.DROPPED, written.sums)


async def _write(connection: asyncpg.Connection, folder: Path, day: date) -> Manifest:
    names = manifest.usage_name(day), manifest.seals_name(day)
    usage, seals = drafts = [folder / f".{name}.new" for name in names]
    # One snapshot: the rows, their sums and their seals are those of one moment.
    async with connection.transaction(isolation="repeatable_read"):
        sums = await read_back.sums_of(connection, TABLE_USAGE_LOGS, day)
        count = await _copy(connection, usage, parquet.USAGE_SCHEMA, _ROWS, bounds(day))
        if count != sums.rows:
            raise ArchiveDamaged(f"{count} rows were read, there are {sums.rows}")
        sealed = await _copy(connection, seals, parquet.SEALS_SCHEMA, _SEALS, (day,))
        version = await connection.fetchval(
            f"SELECT version_num FROM {version_table('usage_sink')}"
        )
        scratch = await read_back.make_scratch(connection)
        await read_back.load(connection, usage, scratch)
        await read_back.check(connection, scratch, day, sums)
        await read_back.check_before_seals(connection, scratch, day)
    written = Manifest(
        day=day,
        sums=sums,
        schema_version=version,
        file=names[0],
        sha256=parquet.sha256(usage),
        seals=sealed,
        seals_file=names[1],
        seals_sha256=parquet.sha256(seals),
    )
    for draft, name in zip(drafts, names, strict=True):
        draft.replace(folder / name)
    _write_manifest(folder, written)
    return manifest.read(folder, day)


def _write_manifest(folder: Path, written: Manifest) -> None:
    draft = folder / f".{manifest.manifest_name(written.day)}.new"
    with draft.open("w", encoding="utf-8") as file:
        file.write(written.to_json())
        parquet.sync(file)
    draft.replace(folder / manifest.manifest_name(written.day))
    parquet.sync_folder(folder)


async def _copy(
    connection: asyncpg.Connection,
    path: Path,
    schema: Any,
    query: str,
    arguments: tuple[Any, ...],
) -> int:
    count = 0
    with parquet.writing(path, schema) as file:
        cursor = await connection.cursor(query, *arguments)
        while rows := await cursor.fetch(parquet.CHUNK_ROWS):
            file.add([tuple(row) for row in rows])
            count += len(rows)
    return count
