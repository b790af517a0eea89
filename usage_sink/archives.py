"""Are the archived days still what was archived? Reads only."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Final

import asyncpg

from runtime.contracts import TABLE_USAGE_ARCHIVES, USAGE_DAY_IS_AWAY
from usage_sink import manifest, read_back
from usage_sink.errors import ArchiveDamaged

_DAYS: Final = f"""
SELECT day, rows, tokens, credits, sha256 FROM {TABLE_USAGE_ARCHIVES}
WHERE {USAGE_DAY_IS_AWAY} ORDER BY day
"""


async def examine(
    connection: asyncpg.Connection, folder: Path, *, deep: bool
) -> AsyncIterator[tuple[date, str | None]]:
    """Each archived day with what is wrong with it, or None.

    The files must be what was noted of them; `deep` also loads their rows and
    compares them with the seals, which costs as much as restoring them.
    """
    for row in await connection.fetch(_DAYS):
        try:
            await _examine(connection, folder, row, deep=deep)
        except ArchiveDamaged as error:
            yield row["day"], str(error)
        else:
            yield row["day"], None


async def _examine(
    connection: asyncpg.Connection, folder: Path, noted: asyncpg.Record, *, deep: bool
) -> None:
    archived = manifest.read(folder, noted["day"])
    if archived.noted() != tuple(noted)[1:]:
        raise ArchiveDamaged(f"{noted['day']} was noted otherwise in the database")
    if deep:
        async with connection.transaction():
            scratch = await read_back.make_scratch(connection)
            await read_back.load(connection, folder / archived.file, scratch)
            await read_back.check(connection, scratch, archived.day, archived.sums)
