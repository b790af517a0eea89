"""Alert rules, states and outbox in PostgreSQL."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Final

import asyncpg
from pydantic import ValidationError

from control.alert_rules import AlertRule
from control.alert_state import (
    AlertState,
    Message,
    from_document,
    new,
    resolved,
    to_document,
)
from control.alert_store import Delivery, Held, Kept
from control.database import Database
from control.store_postgres import translated
from runtime.contracts import (
    TABLE_ALERT_OUTBOX,
    TABLE_ALERT_RULES,
    TABLE_ALERT_STATES,
)
from runtime.logs import get_logger

log = get_logger(__name__)

#: Any number, the same in every control.
_LEADER_LOCK: Final = 0x6875_6267_616C_72
#: A control that says nothing for so long, because it hangs or can't be reached, loses
#: the lock: the server would notice it only after hours.
SILENT_FOR: Final = "60s"
# Servers before PostgreSQL 14 don't know it.
_ENDS_IF_SILENT: Final = """
SELECT set_config(name, $1, false) FROM pg_settings WHERE name = 'idle_session_timeout'
"""

# S608: only names of ours are put into these texts, values are parameters.
_RULES: Final = f"""
SELECT r.id, r.document, r.version, s.document AS state
FROM {TABLE_ALERT_RULES} r JOIN {TABLE_ALERT_STATES} s ON s.rule = r.id
"""  # noqa: S608
_PUT: Final = f"""
INSERT INTO {TABLE_ALERT_RULES} (id, document) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET document = EXCLUDED.document,
    version = {TABLE_ALERT_RULES}.version + 1, updated_at = now()
RETURNING version
"""  # noqa: S608
_NEW_STATE: Final = f"""
INSERT INTO {TABLE_ALERT_STATES} (rule, document) VALUES ($1, $2)
ON CONFLICT (rule) DO UPDATE SET document = EXCLUDED.document, updated_at = now()
WHERE {TABLE_ALERT_STATES}.document->>'status' = 'pending'
"""  # noqa: S608
_DELETE: Final = f"DELETE FROM {TABLE_ALERT_RULES} WHERE id = $1"  # noqa: S608
_DELETE_STATE: Final = f"""
DELETE FROM {TABLE_ALERT_STATES} WHERE rule = $1 RETURNING document
"""  # noqa: S608
_IS_STILL: Final = f"""
SELECT true FROM {TABLE_ALERT_RULES} WHERE id = $1 AND version = $2 FOR SHARE
"""  # noqa: S608
_STEP: Final = f"""
UPDATE {TABLE_ALERT_STATES} SET document = $3, updated_at = now()
WHERE rule = $1 AND document = $2 RETURNING true
"""  # noqa: S608
_TELL: Final = f"""
INSERT INTO {TABLE_ALERT_OUTBOX}
    (rule, fingerprint, starts_at, status, url, body, next_at)
VALUES ($1, $2, $3, $4, $5, $6, $3) ON CONFLICT DO NOTHING
"""  # noqa: S608
_DUE: Final = f"""
SELECT id, rule, url, body, attempts, created_at FROM (
    SELECT DISTINCT ON (rule) * FROM {TABLE_ALERT_OUTBOX}
    WHERE done_at IS NULL ORDER BY rule, id
) AS oldest
WHERE next_at <= $1 ORDER BY id LIMIT $2
"""  # noqa: S608
_DONE: Final = f"""
UPDATE {TABLE_ALERT_OUTBOX} SET done_at = $2, last_error = NULL,
    attempts = attempts + 1 WHERE id = $1
"""  # noqa: S608
_POSTPONED: Final = f"""
UPDATE {TABLE_ALERT_OUTBOX} SET attempts = attempts + 1, last_error = $2,
    next_at = coalesce($3, next_at), done_at = CASE WHEN $3 IS NULL THEN now() END
WHERE id = $1
"""  # noqa: S608


class PostgresAlertStore:
    """Three tables that control owns."""

    def __init__(self, database: Database) -> None:
        self._database = database
        #: Rules that were said not to be understood.
        self._strange: set[str] = set()

    async def rules(self) -> Sequence[Kept]:
        with translated():
            rows = await self._database.pool.fetch(f"{_RULES} ORDER BY r.id")
        return [one for row in rows if (one := self._read(row)) is not None]

    async def get(self, rule: str) -> Kept | None:
        with translated():
            row = await self._database.pool.fetchrow(f"{_RULES} WHERE r.id = $1", rule)
        return None if row is None else self._read(row)

    async def put(self, rule: AlertRule, now: datetime) -> bool:
        document = json.dumps(rule.document())
        state = json.dumps(to_document(new(now.timestamp())))
        with translated():
            async with self._transaction() as connection:
                version = await connection.fetchval(_PUT, rule.id, document)
                await connection.execute(_NEW_STATE, rule.id, state)
        return bool(version == 1)

    async def delete(self, rule: str, now: datetime) -> bool:
        with translated():
            async with self._transaction() as connection:
                # In the order in which `step` takes its locks.
                done = await connection.execute(_DELETE, rule)
                text = await connection.fetchval(_DELETE_STATE, rule)
                fired = None if text is None else from_document(json.loads(text)).fired
                if fired is not None:
                    await _tell(connection, resolved(rule, fired, now, {}))
        return bool(done == "DELETE 1")

    async def step(
        self, before: Kept, state: AlertState, message: Message | None
    ) -> bool:
        old, next_ = (json.dumps(to_document(one)) for one in (before.state, state))
        name = before.rule.id
        with translated():
            async with self._transaction() as connection:
                if not await connection.fetchval(_IS_STILL, name, before.version):
                    return False
                if not await connection.fetchval(_STEP, name, old, next_):
                    return False
                if message is not None:
                    await _tell(connection, message)
        return True

    async def due(self, now: datetime, limit: int) -> Sequence[Delivery]:
        with translated():
            rows = await self._database.pool.fetch(_DUE, now, limit)
        return [Delivery(**{**row, "body": json.loads(row["body"])}) for row in rows]

    async def delivered(self, delivery: Delivery, now: datetime) -> None:
        with translated():
            await self._database.pool.execute(_DONE, delivery.id, now)

    async def postponed(
        self, delivery: Delivery, reason: str, next_at: datetime | None
    ) -> None:
        with translated():
            await self._database.pool.execute(_POSTPONED, delivery.id, reason, next_at)

    def _read(self, row: asyncpg.Record) -> Kept | None:
        """None: another version of control put it; the other rules go on."""
        try:
            return _kept(row)
        except ValidationError as error:
            if row["id"] not in self._strange:
                self._strange.add(row["id"])
                log.warning("alert rule not understood", rule=row["id"], why=str(error))
            return None

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        async with self._database.pool.acquire() as one, one.transaction():
            yield one

    @asynccontextmanager
    async def leading(self) -> AsyncIterator[Held]:
        """An advisory lock: it ends with its connection, whatever happens to us."""
        with translated():
            connection = await self._database.pool.acquire()
        is_leader = False

        async def held() -> bool:
            nonlocal is_leader
            with translated():
                if is_leader:
                    # Without an answer the lock may be another's by now.
                    return bool(await connection.fetchval("SELECT true"))
                is_leader = bool(
                    await connection.fetchval(
                        "SELECT pg_try_advisory_lock($1)", _LEADER_LOCK
                    )
                )
                await connection.execute(_ENDS_IF_SILENT, SILENT_FOR)
            return is_leader

        try:
            yield held
        finally:
            # What is set of the connection ends with its release.
            with suppress(
                asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError
            ):
                if is_leader:
                    await connection.execute(
                        "SELECT pg_advisory_unlock($1)", _LEADER_LOCK
                    )
            await self._database.pool.release(connection)


async def _tell(connection: asyncpg.pool.PoolConnectionProxy, message: Message) -> None:
    """To be sent at once by control's own clock: the database may have another."""
    fired = message.fired
    await connection.execute(
        _TELL,
        message.rule,
        fired.fingerprint,
        fired.starts_at,
        message.status,
        fired.webhook,
        json.dumps(message.body),
    )


def _kept(row: asyncpg.Record) -> Kept:
    return Kept(
        AlertRule.model_validate(json.loads(row["document"])),
        row["version"],
        from_document(json.loads(row["state"])),
    )
