"""The table `audit_log`, which control may only add to."""

import json
from collections.abc import Sequence
from typing import Final

import asyncpg

from control.audit import AuditQuery, Entry, Kept
from control.database import Database
from control.store_postgres import translated
from runtime.contracts import TABLE_AUDIT_LOG

# S608: only names of ours are put into these texts, values are parameters.
_ADD: Final = f"""
INSERT INTO {TABLE_AUDIT_LOG} (actor, role, action, subject, details, request_id)
VALUES ($1, $2, $3, $4, $5, $6)
"""  # noqa: S608
_FIND: Final = f"""
SELECT id, at, actor, role, action, subject, details, request_id
FROM {TABLE_AUDIT_LOG}
WHERE ($1::text IS NULL OR actor = $1) AND ($2::text IS NULL OR subject = $2)
    AND ($3::text IS NULL OR action = $3) AND ($4::timestamptz IS NULL OR at >= $4)
    AND ($5::timestamptz IS NULL OR at < $5) AND ($6::bigint IS NULL OR id < $6)
ORDER BY id DESC LIMIT $7
"""  # noqa: S608


async def write(
    to: asyncpg.Pool | asyncpg.pool.PoolConnectionProxy, entry: Entry
) -> None:
    """In a transaction of the connection, if it is in one; the driver's errors."""
    await to.execute(
        _ADD,
        *(entry.actor, entry.role, str(entry.action), entry.subject),
        *(json.dumps(dict(entry.details)), entry.request_id),
    )


class PostgresAuditLog:
    """Raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, entry: Entry) -> None:
        with translated():
            await write(self._database.pool, entry)

    async def find(self, query: AuditQuery) -> Sequence[Kept]:
        async with self._database.reading() as connection:
            rows = await connection.fetch(
                _FIND,
                *(query.actor, query.subject, query.action),
                *(query.start, query.end, query.before, query.limit + 1),
            )
        return [
            Kept(
                row["id"],
                row["at"],
                Entry(
                    actor=row["actor"],
                    role=row["role"],
                    action=row["action"],
                    subject=row["subject"],
                    details=json.loads(row["details"]),
                    request_id=row["request_id"],
                ),
            )
            for row in rows
        ]
