"""A node that was closed by hand and is there again holds the ledger's claim back."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from runtime.clock import FakeClock
from runtime.metrics import Metrics
from tests.builders_evidence import NOW, MemorySpool, a_log_line
from tests.builders_ledger import a_ledger, a_record
from usage_sink.evidence import Evidence, Place
from usage_sink.evidence_settings import EvidenceSettings

pytestmark = pytest.mark.integration

_CLAIMED = NOW - 600


class Room:
    """A sink's evidence, and the ledger."""

    def __init__(self, folder: Path, url: str, pool: asyncpg.Pool) -> None:
        self.log = folder / "access.jsonl"
        self.pool = pool
        self.clock, self.metrics = FakeClock(NOW), Metrics()
        settings = EvidenceSettings(database_url=url, access_log_file=self.log)
        place, spool = Place("node-1", folder), MemorySpool(self.clock)
        self.evidence = Evidence(settings, place, spool, self.clock, self.metrics)

    async def mark(self) -> Any:
        return await self.pool.fetchrow("SELECT * FROM usage_watermarks")

    async def round(self) -> Any:
        """The watermark after one more, some seconds later."""
        self.clock.advance(5)
        await self.evidence._round()
        return await self.mark()


@pytest.fixture
async def room(tmp_path: Path, migrated_url: str) -> AsyncIterator[Room]:
    """Of a node that died ten minutes ago."""
    async with a_ledger(migrated_url) as pool:
        room = Room(tmp_path, migrated_url, pool)
        yield room
        await room.evidence._release()


async def close_by_hand(pool: asyncpg.Pool) -> None:
    await pool.execute(
        "INSERT INTO usage_watermarks"
        " VALUES ('node-1', to_timestamp($1), 'file', 0, true, to_timestamp($1))",
        _CLAIMED,
    )


async def test_a_node_that_comes_back_is_open_before_it_can_claim_anything(
    room: Room,
) -> None:
    await close_by_hand(room.pool)
    room.log.write_bytes(a_log_line(1) + b"\n")  # has no row yet
    mark = await room.round()

    assert not mark["is_closed"]
    assert (mark["complete_through"].timestamp(), mark["pending"]) == (_CLAIMED, 1)
    assert room.metrics.value("hubgate_usage_complete_through_seconds") == 605


async def test_a_node_that_can_claim_nothing_is_heard_all_the_same(room: Room) -> None:
    await close_by_hand(room.pool)
    room.log.write_bytes(a_log_line(1) + b"\n")
    first = await room.round()
    second = await room.round()

    assert second["updated_at"] > first["updated_at"]


async def test_a_node_that_came_back_claims_again_when_its_rows_are_there(
    room: Room,
) -> None:
    await close_by_hand(room.pool)
    record = a_record()
    room.log.write_bytes(a_log_line(record.event.id.int) + b"\n")
    await room.round()
    room.evidence.committed([record])
    mark = await room.round()

    assert mark["complete_through"].timestamp() > _CLAIMED
    assert (mark["is_closed"], mark["pending"]) == (False, 0)


async def test_a_node_that_was_never_heard_of_claims_nothing_out_of_nothing(
    room: Room,
) -> None:
    room.log.write_bytes(a_log_line(1) + b"\n")

    assert await room.round() is None
