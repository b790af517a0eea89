"""An archived day comes back: loaded into a table of its own, checked, then attached.

All of it is one transaction of the ledger's owner: a restore that dies leaves nothing.
The day counts again at once, with the sums it always had in the rollups; it stays
until someone archives it by name.
"""

from datetime import date
from pathlib import Path
from typing import Final

import asyncpg

from runtime.contracts import TABLE_USAGE_ARCHIVES, TABLE_USAGE_LOGS, USAGE_DAY_IS_AWAY
from usage_sink import manifest, read_back
from usage_sink.archive import LOCK
from usage_sink.days import bounds
from usage_sink.errors import ArchiveDamaged, ArchiverBusy, NotArchived
from usage_sink.manifest import Manifest

_NOTED: Final = f"""
SELECT rows, tokens, credits, sha256 FROM {TABLE_USAGE_ARCHIVES}
WHERE day = $1 AND {USAGE_DAY_IS_AWAY}
"""
_RESTORED: Final = f"""
UPDATE {TABLE_USAGE_ARCHIVES} SET restored_at = now() WHERE day = $1
"""
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '10s'"


async def restore(connection: asyncpg.Connection, folder: Path, day: date) -> Manifest:
    """Bring `day` back; `connection` is that of the ledger's owner.

    Raises:
        NotArchived: it is in the ledger, or never was.
        ArchiveDamaged: the archive is not what was noted and sealed.
        ArchiverBusy: another process archives or restores, or a query is in the way.
    """
    try:
        async with connection.transaction():
            await connection.execute(_LOCK_TIMEOUT)
            if not await connection.fetchval(
                "SELECT pg_try_advisory_xact_lock($1)", LOCK
            ):
                raise ArchiverBusy
            archived = await _verified(connection, folder, day)
            await _attach(connection, folder / archived.file, archived)
            await connection.execute(_RESTORED, day)
    except asyncpg.LockNotAvailableError as error:
        raise ArchiverBusy(str(error)) from error
    return archived


async def _verified(
    connection: asyncpg.Connection, folder: Path, day: date
) -> Manifest:
    """The manifest, when its files are what the database was told of them."""
    noted = await connection.fetchrow(_NOTED, day)
    if noted is None:
        raise NotArchived(str(day))
    archived = manifest.read(folder, day)
    if tuple(noted) != archived.noted():
        raise ArchiveDamaged(f"{day} was noted as {tuple(noted)}")
    return archived


async def _attach(
    connection: asyncpg.Connection, file: Path, archived: Manifest
) -> None:
    day = archived.day
    table = f"{TABLE_USAGE_LOGS}_{day:%Y%m%d}"
    start, end = (f"'{instant.isoformat()}'" for instant in bounds(day))
    await connection.execute(
        f"CREATE TABLE {table} (LIKE {TABLE_USAGE_LOGS} INCLUDING ALL)"
    )
    await read_back.load(connection, file, table)
    await read_back.check(connection, table, day, archived.sums)
    # With a constraint that says the same as the bounds, attaching reads no row.
    await connection.execute(
        f"ALTER TABLE {table} ADD CONSTRAINT of_its_day"
        f" CHECK (created_at >= {start} AND created_at < {end})"
    )
    try:
        await connection.execute(
            f"ALTER TABLE {TABLE_USAGE_LOGS} ATTACH PARTITION {table}"
            f" FOR VALUES FROM ({start}) TO ({end})"
        )
    except asyncpg.CheckViolationError as error:
        raise NotArchived(f"{day} has later rows in the default partition") from error
    await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT of_its_day")
    # Row triggers come with the parent, those of TRUNCATE do not.
    await connection.execute(
        f"CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON {table}"
        " FOR EACH STATEMENT EXECUTE FUNCTION usage_logs_refuse_change()"
    )
