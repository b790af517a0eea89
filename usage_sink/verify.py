"""Does the ledger still say what was written? Reads only; trusts nothing it reads.

In one snapshot of the database:

- `chain`: each seal follows the one before; each head that is known from outside the
  database is there, so a rewritten suffix and an older copy are found.
- `rows`: each seal's rows are there, are what they were, and no row is without seal.
- `adjustments`: the same for corrections.
- `rollups`: the sums by hour and minute are the sums of the rows, and those of days
  and months, where they are current, are the sums of the hours.
- `guards`: the triggers that refuse changes are there and in force.

Days that were archived and dropped are checked against their files by `archives`.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Final

import asyncpg

from runtime.contracts import (
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_ARCHIVES,
    TABLE_USAGE_CHAINS,
    TABLE_USAGE_LOGS,
    TABLE_USAGE_SEALS,
)
from runtime.postgres import connected
from usage_sink import heads as heads_file
from usage_sink.findings import Report
from usage_sink.tables import TABLE_REPORT_IDS
from usage_sink.verify_seals import SealChecks
from usage_sink.verify_sums import SumChecks

_CONNECT_TIMEOUT_S: Final = 10.0

_UNGUARDED: Final = f"""
SELECT wanted.relation::text, wanted.trigger FROM (
    SELECT inhrelid::regclass AS relation, unnest(
        ARRAY['refuse_change_of_a_row', 'refuse_truncate']) AS trigger
    FROM pg_inherits WHERE inhparent = '{TABLE_USAGE_LOGS}'::regclass
    UNION ALL
    SELECT '{TABLE_USAGE_LOGS}'::regclass, unnest(
        ARRAY['refuse_change_of_a_row', 'refuse_change'])
    UNION ALL
    SELECT unnest(ARRAY['{TABLE_USAGE_SEALS}', '{TABLE_USAGE_CHAINS}',
        '{TABLE_REPORT_IDS}', '{TABLE_USAGE_ADJUSTMENTS}'])::regclass, 'refuse_change'
) AS wanted
LEFT JOIN pg_trigger t
    ON t.tgrelid = wanted.relation AND t.tgname = wanted.trigger
    AND t.tgenabled IN ('O', 'A')
WHERE t.oid IS NULL
"""


async def verify(dsn: str, heads: Path | None) -> Report:
    """Check the whole ledger; `heads` is the file beside the spool.

    Raises:
        DatabaseUnavailable: no answer.
        OSError: `heads` can't be read.
    """
    # Before the snapshot: a head is written after its commit.
    outside = [] if heads is None else heads_file.read(heads)
    async with (
        connected(dsn, _CONNECT_TIMEOUT_S) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        return await _verify(connection, outside)


async def _verify(
    connection: asyncpg.Connection, outside: Sequence[heads_file.Head]
) -> Report:
    chains = await connection.fetch(f"SELECT chain, name FROM {TABLE_USAGE_CHAINS}")
    report = Report({row["chain"]: row["name"] for row in chains}, heads=len(outside))
    days = await _days(connection)
    seals = SealChecks(connection, report)
    await seals.chains(outside)
    await seals.rows(days)
    await seals.adjustments()
    sums = SumChecks(connection, report)
    await sums.hours_and_minutes(days)
    await sums.periods()
    for table, missing in await connection.fetch(_UNGUARDED):
        report.find("guards", f"{table} can be changed: {missing} is not in force")
    report.archived_days = await connection.fetchval(
        f"SELECT count(*) FROM {TABLE_USAGE_ARCHIVES} WHERE dropped_at IS NOT NULL"
    )
    report.sort()
    return report


async def _days(connection: asyncpg.Connection) -> frozenset[date]:
    """Those with a partition of their own."""
    found = await connection.fetch(
        "SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c"
        f" ON c.oid = i.inhrelid WHERE i.inhparent = '{TABLE_USAGE_LOGS}'::regclass"
        " AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'"
    )
    names = (row["name"].removeprefix(f"{TABLE_USAGE_LOGS}_") for row in found)
    return frozenset(map(date.fromisoformat, names))
