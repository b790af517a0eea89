"""What control keeps for long is pruned by the owner, and stays closed to everyone."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from control.prune import Pruned, Settings, prune
from runtime.clock import SystemClock
from runtime.migrations import migrate

pytestmark = pytest.mark.integration


@pytest.fixture
async def connection(fresh_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    await migrate(fresh_database_url, package="control")
    connection = await asyncpg.connect(fresh_database_url)
    yield connection
    await connection.close()


def ago(days: float) -> datetime:
    return datetime.fromtimestamp(SystemClock().now(), UTC) - timedelta(days=days)


async def test_old_entries_go_and_an_entry_says_so(
    connection: asyncpg.Connection, fresh_database_url: str
) -> None:
    await connection.executemany(
        "INSERT INTO audit_log (at, role, action, details) "
        "VALUES ($1, 'admin', 'usage.logs', '{}')",
        [(ago(days),) for days in (400, 370, 360, 1)],
    )
    settings = Settings(database_url=fresh_database_url, audit_keep_days=365)

    first = await prune(settings, SystemClock())
    second = await prune(settings, SystemClock())

    assert (first, second) == (Pruned(2, 0), Pruned(0, 0))
    left = await connection.fetch("SELECT action, details FROM audit_log ORDER BY id")
    assert [row["action"] for row in left] == [
        *("usage.logs", "usage.logs"),
        "audit.pruned",
    ]
    assert '"rows": 2' in left[-1]["details"]
    with pytest.raises(asyncpg.RestrictViolationError):
        await connection.execute("DELETE FROM audit_log")


async def test_told_messages_go_and_waiting_ones_stay(
    connection: asyncpg.Connection, fresh_database_url: str
) -> None:
    await connection.executemany(
        "INSERT INTO alert_outbox (rule, fingerprint, starts_at, status, url, body, "
        "done_at) VALUES ('r', $1, now(), 'firing', 'https://a.example', '{}', $2)",
        [("old", ago(91)), ("new", ago(89)), ("waiting", None)],
    )

    found = await prune(Settings(database_url=fresh_database_url), SystemClock())

    assert found == Pruned(0, 1)
    left = await connection.fetch("SELECT fingerprint FROM alert_outbox ORDER BY id")
    assert [row["fingerprint"] for row in left] == ["new", "waiting"]
