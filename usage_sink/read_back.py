"""Does a table hold a day as it was sealed? Asked of what was read from an archive."""

from datetime import date
from pathlib import Path
from typing import Final

import asyncpg

from runtime.contracts import TABLE_USAGE_LOGS, TABLE_USAGE_SEALS
from usage_sink import parquet
from usage_sink.days import bounds
from usage_sink.errors import ArchiveDamaged
from usage_sink.manifest import Sums
from usage_sink.seals import BEFORE_SEALS, SealKind, rows_digest

_SCRATCH: Final = "usage_read_back"
_MAKE_SCRATCH: Final = f"""
CREATE TEMPORARY TABLE {_SCRATCH} ON COMMIT DROP
AS SELECT {", ".join(parquet.STORED)} FROM {TABLE_USAGE_LOGS} WITH NO DATA
"""
_DAY: Final = "created_at >= $1 AND created_at < $2"


async def make_scratch(connection: asyncpg.Connection) -> str:
    """A table for read-back rows, until the transaction ends; its name."""
    await connection.execute(_MAKE_SCRATCH)
    return _SCRATCH


async def load(connection: asyncpg.Connection, path: Path, table: str) -> None:
    """COPY a file's rows to `table`.

    Raises:
        ArchiveDamaged: it can't be read.
    """
    try:
        for rows in parquet.rows(path, parquet.STORED):
            await connection.copy_records_to_table(
                table, columns=parquet.STORED, records=rows
            )
    except (OSError, ValueError) as error:
        raise ArchiveDamaged(f"{path.name}: {error}") from error


async def check(
    connection: asyncpg.Connection, table: str, day: date, sums: Sums
) -> None:
    """That `table` has the rows of `day` as they were sealed, and no others.

    Raises:
        ArchiveDamaged: naming the first seal that differs.
    """
    found = await sums_of(connection, table, day)
    total = await connection.fetchval(f"SELECT count(*) FROM {table}")
    if found != sums or total != sums.rows:
        raise ArchiveDamaged(f"{found} instead of {sums}, {total} rows in all")
    bad = await connection.fetchrow(_differences(table), day)
    if bad is not None:
        raise ArchiveDamaged(
            f"seal {bad['seal']} of chain {bad['chain']}: its {bad['sealed'] or 'no'}"
            f" rows are not the {bad['found'] or 'no'} rows there are"
        )


async def check_before_seals(
    connection: asyncpg.Connection, table: str, day: date
) -> None:
    """That rows of `day` from before there were seals are those of the ledger.

    One seal covers them all, over all days: it says nothing of one day's.

    Raises:
        ArchiveDamaged: they are not.
    """
    query = (
        "SELECT {digest} FROM {table} WHERE chain = $3 AND {day} HAVING count(*) > 0"
    )
    live, file = [
        await connection.fetchval(
            query.format(digest=rows_digest(SealKind.USAGE), table=one, day=_DAY),
            *bounds(day),
            BEFORE_SEALS,
        )
        for one in (TABLE_USAGE_LOGS, table)
    ]
    if live != file:
        raise ArchiveDamaged("rows from before seals are not what was written")


async def sums_of(connection: asyncpg.Connection, table: str, day: date) -> Sums:
    """What the rows of `day` in `table` add up to."""
    (row,) = await connection.fetch(
        "SELECT count(*), coalesce(sum(tokens), 0)::bigint,"
        f" coalesce(sum(credits), 0)::bigint FROM {table} WHERE {_DAY}",
        *bounds(day),
    )
    return Sums(*tuple(row))


def _differences(table: str) -> str:
    return f"""
SELECT chain, seal, f.rows AS found, s.rows AS sealed
FROM (SELECT chain, seal, count(*) AS rows, {rows_digest(SealKind.USAGE)} AS digest
      FROM {table} WHERE chain <> {BEFORE_SEALS} GROUP BY chain, seal) f
FULL JOIN (SELECT chain, seal, rows, digest FROM {TABLE_USAGE_SEALS}
      WHERE day = $1 AND kind = '{SealKind.USAGE}' AND chain <> {BEFORE_SEALS}) s
USING (chain, seal)
WHERE f.rows IS DISTINCT FROM s.rows OR f.digest IS DISTINCT FROM s.digest
ORDER BY chain, seal LIMIT 1
"""
