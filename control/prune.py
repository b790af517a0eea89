"""`python -m control.prune`: what control need not keep for ever, by the tables' owner.

Rows of `audit_log` that are older than HUBGATE_AUDIT_KEEP_DAYS, and messages of alerts
that were delivered or given up so long ago as HUBGATE_ALERT_MESSAGES_KEEP_DAYS says.
Control's own login can't take a row from the audit log, and who can leaves one there
that says so.
"""

import asyncio
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
from pydantic import Field

from control.audit import Action
from runtime import lifecycle
from runtime.clock import Clock, SystemClock
from runtime.contracts import TABLE_ALERT_OUTBOX, TABLE_AUDIT_LOG
from runtime.logs import get_logger
from runtime.postgres import affected, connected
from runtime.settings import PostgresSettings

log = get_logger(__name__)

_TIMEOUT_S: Final = 60.0
#: Reads of others' usage wait for their entry meanwhile: not for long.
_AT_ONCE: Final = 10_000
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '3s'"

# S608: only names of ours are put into these texts, values are parameters.
_TRIGGER: Final = f"ALTER TABLE {TABLE_AUDIT_LOG} {{}} TRIGGER refuse_change"
_ENTRIES: Final = f"""
DELETE FROM {TABLE_AUDIT_LOG} WHERE id IN (
    SELECT id FROM {TABLE_AUDIT_LOG} WHERE at < $1 ORDER BY at, id LIMIT {_AT_ONCE})
"""  # noqa: S608
_NOTE: Final = f"""
INSERT INTO {TABLE_AUDIT_LOG} (role, action, details) VALUES ('owner', $1, $2)
"""  # noqa: S608
_MESSAGES: Final = f"DELETE FROM {TABLE_ALERT_OUTBOX} WHERE done_at < $1"  # noqa: S608


class Settings(PostgresSettings):
    """`database_url` is the owner's."""

    audit_keep_days: int = Field(default=3650, ge=30, le=36_500)
    alert_messages_keep_days: int = Field(default=90, ge=7, le=36_500)


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows went."""

    entries: int
    messages: int


async def prune(settings: Settings, clock: Clock) -> Pruned:
    """Raises DatabaseUnavailable; what went before stays gone, and is noted."""
    now = datetime.fromtimestamp(clock.now(), UTC)
    async with connected(
        settings.database_url, _TIMEOUT_S, command_timeout_s=_TIMEOUT_S
    ) as connection:
        oldest = now - timedelta(days=settings.audit_keep_days)
        entries = 0
        while some := await _prune_entries(connection, oldest):
            entries += some
        oldest = now - timedelta(days=settings.alert_messages_keep_days)
        messages = affected(await connection.execute(_MESSAGES, oldest))
    return Pruned(entries, messages)


async def _prune_entries(connection: asyncpg.Connection, oldest: datetime) -> int:
    async with connection.transaction():
        await connection.execute(_LOCK_TIMEOUT)
        await connection.execute(_TRIGGER.format("DISABLE"))
        count = affected(await connection.execute(_ENTRIES, oldest))
        await connection.execute(_TRIGGER.format("ENABLE"))
        if count:
            details = {"before": oldest.isoformat(), "rows": count}
            await connection.execute(_NOTE, Action.PRUNED.value, json.dumps(details))
    return count


async def main(_: asyncio.Event) -> None:
    settings = Settings.from_environ(os.environ)  # noqa: TID251 - a composition root
    pruned = await prune(settings, SystemClock())
    log.info("pruned", entries=pruned.entries, messages=pruned.messages)


if __name__ == "__main__":
    lifecycle.run(main)
