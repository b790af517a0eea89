"""What every Nodes promises, over the twin and over PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from control.audit import Action, AuditQuery, Entry, Kept, MemoryAuditLog
from control.audit_postgres import PostgresAuditLog
from control.completeness import Watermark
from control.database import Database
from control.nodes import MemoryNodes, NodeAlive, Nodes
from control.nodes_postgres import PostgresNodes
from control.store import MemoryUsageQueries, StoreUnavailable
from control.usage_postgres import PostgresUsageQueries
from runtime.clock import Clock, SystemClock
from runtime.contracts import NODE_SILENT_S
from usage_sink.completeness import Basis, publish
from usage_sink.completeness import Watermark as Claim

DIED = datetime(2026, 11, 22, 9, 30, 15, 541760, tzinfo=UTC)
ENTRY = Entry(
    actor="a-1",
    role="admin",
    action=Action.NODE_CLOSED,
    details={"author": "ada", "reason": "its machine is gone"},
)


@dataclass
class Room:
    """Nodes, and what else there is to see of them."""

    nodes: Nodes
    usage: MemoryUsageQueries | PostgresUsageQueries
    audit: MemoryAuditLog | PostgresAuditLog
    clock: Clock
    pool: asyncpg.Pool | None = None

    async def has(self, node: str, silent_s: float, **changes: Any) -> None:
        """A node that was heard last so long ago."""
        heard = datetime.fromtimestamp(self.clock.now() - silent_s, UTC)
        mark = Watermark(
            node=node,
            complete_through=DIED,
            basis="file",
            pending=3,
            is_closed=changes.get("is_closed", False),
            updated_at=heard,
        )
        if isinstance(self.usage, MemoryUsageQueries):
            self.usage.marks.append(mark)
            return
        assert self.pool is not None
        await self.pool.execute(
            "INSERT INTO usage_watermarks VALUES ($1, $2, $3, $4, $5, $6)",
            *(mark.node, mark.complete_through, mark.basis, mark.pending),
            *(mark.is_closed, mark.updated_at),
        )

    async def mark(self, node: str) -> Watermark:
        return next(one for one in await self.usage.watermarks() if one.node == node)

    async def noted(self) -> Sequence[Kept]:
        return await self.audit.find(AuditQuery(action=Action.NODE_CLOSED))


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_url, 5.0, SystemClock())
    assert await database.connect(asyncio.Event())
    yield database
    await database.close()


def in_postgres(database: Database) -> Room:
    audit, usage = PostgresAuditLog(database), PostgresUsageQueries(database)
    return Room(PostgresNodes(database), usage, audit, SystemClock(), database.pool)


@pytest.fixture(
    params=["memory", pytest.param("postgres", marks=pytest.mark.integration)]
)
def room(request: pytest.FixtureRequest) -> Room:
    if request.param == "postgres":
        return in_postgres(request.getfixturevalue("database"))
    clock = SystemClock()
    usage, audit = MemoryUsageQueries(), MemoryAuditLog(clock)
    return Room(MemoryNodes(usage, audit, clock), usage, audit, clock)


async def test_a_silent_node_is_closed_and_its_claim_stays_where_it_was(
    room: Room,
) -> None:
    await room.has("gone", NODE_SILENT_S + 10)
    await room.has("other", NODE_SILENT_S + 10)
    before = room.clock.now()
    closed = await room.nodes.close("gone", ENTRY)

    assert closed == await room.mark("gone")
    assert closed is not None
    assert closed.is_closed
    assert closed.closed_by_hand_at is not None
    assert abs(closed.closed_by_hand_at.timestamp() - before) < 10
    assert (closed.complete_through, closed.pending) == (DIED, 3)
    assert closed.updated_at.timestamp() < before - NODE_SILENT_S
    assert not (await room.mark("other")).is_closed


async def test_it_is_written_down_who_closed_it_why_and_what_may_be_missing(
    room: Room,
) -> None:
    await room.has("gone", NODE_SILENT_S + 10)
    closed = await room.nodes.close("gone", ENTRY)
    (kept,) = await room.noted()

    assert closed is not None
    assert (kept.entry.actor, kept.entry.role) == ("a-1", "admin")
    assert (
        kept.entry.details.items()
        >= {
            "author": "ada",
            "reason": "its machine is gone",
            "node": "gone",
            "completeThrough": "2026-11-22T09:30:15.541760Z",
            "pending": 3,
        }.items()
    )


async def test_a_node_that_was_heard_lately_stays_open_and_nothing_is_written(
    room: Room,
) -> None:
    await room.has("alive", NODE_SILENT_S - 20)
    with pytest.raises(NodeAlive) as caught:
        await room.nodes.close("alive", ENTRY)

    assert caught.value.mark == await room.mark("alive")
    assert not (await room.mark("alive")).is_closed
    assert await room.noted() == []


async def test_a_node_that_was_heard_in_the_future_stays_open(room: Room) -> None:
    await room.has("ahead", -3600)
    with pytest.raises(NodeAlive):
        await room.nodes.close("ahead", ENTRY)

    assert not (await room.mark("ahead")).is_closed


async def test_closing_twice_leaves_it_as_it_was_and_is_written_down_twice(
    room: Room,
) -> None:
    await room.has("gone", NODE_SILENT_S + 10)
    first = await room.nodes.close("gone", ENTRY)
    second = await room.nodes.close("gone", ENTRY)

    assert first == second == await room.mark("gone")
    assert len(await room.noted()) == 2


async def test_a_node_that_closed_itself_is_not_one_closed_by_hand(room: Room) -> None:
    await room.has("stopped", 1, is_closed=True)
    closed = await room.nodes.close("stopped", ENTRY)

    assert closed is not None
    assert closed.is_closed
    assert closed.closed_by_hand_at is None


async def test_a_node_that_nobody_knows_is_none_and_nothing_is_written(
    room: Room,
) -> None:
    await room.has("gone", NODE_SILENT_S + 10)

    assert await room.nodes.close("gon", ENTRY) is None
    assert await room.noted() == []
    assert not (await room.mark("gone")).is_closed


async def test_the_twin_keeps_a_node_open_when_it_can_not_be_written_down() -> None:
    clock = SystemClock()
    usage, audit = MemoryUsageQueries(), MemoryAuditLog(clock)
    room = Room(MemoryNodes(usage, audit, clock), usage, audit, clock)
    await room.has("gone", NODE_SILENT_S + 10)
    audit.is_available = False
    with pytest.raises(StoreUnavailable):
        await room.nodes.close("gone", ENTRY)

    assert not (await room.mark("gone")).is_closed


@pytest.mark.integration
async def test_a_node_stays_open_when_it_can_not_be_written_down(
    database: Database,
) -> None:
    room = in_postgres(database)
    await room.has("gone", NODE_SILENT_S + 10)
    await database.pool.execute("ALTER TABLE audit_log RENAME TO audit_log_away")
    with pytest.raises(StoreUnavailable):
        await room.nodes.close("gone", ENTRY)

    assert not (await room.mark("gone")).is_closed


@pytest.mark.integration
async def test_a_node_that_is_heard_again_is_open_and_not_closed_by_hand(
    database: Database,
) -> None:
    room = in_postgres(database)
    await room.has("back", NODE_SILENT_S + 10)
    await room.nodes.close("back", ENTRY)
    later = (DIED + timedelta(hours=1)).timestamp()
    await publish(database.pool, Claim("back", later, Basis.FILE, pending=0))
    mark = await room.mark("back")
    await publish(database.pool, Claim("back", later, Basis.FILE, 0, is_closed=True))
    stopped = await room.mark("back")

    assert (mark.is_closed, mark.closed_by_hand_at) == (False, None)
    assert (stopped.is_closed, stopped.closed_by_hand_at) == (True, None)


@pytest.mark.integration
async def test_a_database_that_was_never_there_is_unavailable() -> None:
    database = Database("postgresql://127.0.0.1:1/x", 1.0, SystemClock())

    with pytest.raises(StoreUnavailable):
        await PostgresNodes(database).close("gone", ENTRY)
