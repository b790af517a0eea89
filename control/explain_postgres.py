"""What the database keeps of one request."""

import json
from typing import Any, Final
from uuid import UUID

import asyncpg

from control.database import Database
from control.explain import ADJUSTED, Adjustment, Seal, Story
from control.store_postgres import revision_of
from control.usage import COLUMNS
from runtime.contracts import (
    TABLE_CONFIG_REVISIONS,
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_CHAINS,
    TABLE_USAGE_LOGS,
    TABLE_USAGE_SEALS,
)

# S608: only names of ours are put into these texts, values are parameters.
_ROW: Final = f"""
SELECT {", ".join(COLUMNS)}, chain, seal FROM {TABLE_USAGE_LOGS}
WHERE id = $1 ORDER BY created_at LIMIT 1
"""  # noqa: S608
_ADJUSTMENTS: Final = f"""
SELECT id, {", ".join(ADJUSTED)}, price_version, reason, author, metadata, created_at,
    chain, seal
FROM {TABLE_USAGE_ADJUSTMENTS} WHERE usage_id = $1 AND usage_created_at = $2
ORDER BY created_at, id
"""  # noqa: S608
#: The first of a chain follows the digest of the chain's name.
_SEAL: Final = f"""
SELECT c.name, c.node, s.seal, s.day, s.rows, s.digest, s.previous, s.head, s.sealed_at,
    s.previous = coalesce(
        (SELECT b.head FROM {TABLE_USAGE_SEALS} b
         WHERE b.chain = s.chain AND b.seal < s.seal ORDER BY b.seal DESC LIMIT 1),
        sha256(convert_to(c.name, 'UTF8'))
    ) AS is_linked
FROM {TABLE_USAGE_SEALS} s JOIN {TABLE_USAGE_CHAINS} c USING (chain)
WHERE s.chain = $1 AND s.seal = $2
"""  # noqa: S608
_REVISION: Final = f"""
SELECT * FROM {TABLE_CONFIG_REVISIONS}
WHERE status = 'active' AND created_at <= $1 ORDER BY rev DESC LIMIT 1
"""  # noqa: S608


class PostgresStories:
    """Reads the ledger and the history of configurations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, request_id: UUID) -> Story | None:
        async with self._database.reading() as connection:
            row = await connection.fetchrow(_ROW, request_id)
            if row is None:
                return None
            began = row["created_at"]
            corrections = await connection.fetch(_ADJUSTMENTS, request_id, began)
            revision = await connection.fetchrow(_REVISION, began)
            return Story(
                row=_decoded(row),
                seal=await _seal(connection, row),
                adjustments=[
                    Adjustment(_decoded(one), await _seal(connection, one))
                    for one in corrections
                ],
                revision=None if revision is None else revision_of(revision),
            )


async def _seal(
    connection: asyncpg.pool.PoolConnectionProxy, sealed: asyncpg.Record
) -> Seal | None:
    row = await connection.fetchrow(_SEAL, sealed["chain"], sealed["seal"])
    if row is None:
        return None
    return Seal(
        chain=row["name"],
        node=row["node"],
        seal=row["seal"],
        day=row["day"].isoformat(),
        rows=row["rows"],
        digest=row["digest"].hex(),
        previous=row["previous"].hex(),
        head=row["head"].hex(),
        sealed_at=row["sealed_at"],
        is_linked=row["is_linked"],
    )


def _decoded(row: asyncpg.Record) -> dict[str, Any]:
    return {**row, "metadata": json.loads(row["metadata"])}
