"""An admitted request gets a row, whatever became of its Envoy; never two."""

import fcntl
import os
from pathlib import Path
from typing import IO

import pytest

from tests.builders_evidence import NOW, Witnesses, a_key, an_admission
from usage_sink.errors import LedgerUnavailable
from usage_sink.lives import Lives
from usage_sink.settle import Settlement


class Room(Witnesses):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.is_evident = True
        self.start()

    def start(self) -> None:
        self.lives = Lives()
        self.settlement = Settlement(
            folder=self.folder,
            presence=self.presence,
            recent=self.recent,
            spool=self.spool,
            clock=self.clock,
            metrics=self.metrics,
            lives=self.lives,
        )
        self.settlement.load()

    def segment(self, *lines: bytes, writer: int = 0) -> Path:
        milliseconds = int(self.clock.now() * 1000)
        path = self.folder / f"{milliseconds:013d}-{writer}.journal"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        now = self.clock.now()
        os.utime(path, (now, now))
        return path

    async def step(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        await self.settlement.step(lambda _: self.is_evident)

    def reborn(self) -> None:
        """The node's Envoy is in its second life."""
        self.lives.observe("node-1", "life-1", self.clock.now())
        self.lives.observe("node-1", "life-2", self.clock.now())


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


async def test_a_segment_whose_requests_all_have_rows_is_removed(room: Room) -> None:
    path = room.segment(an_admission(1), an_admission(2))
    room.recent.add([1])
    room.presence.rows.add(a_key(2))
    await room.step()
    assert path.exists()  # its last request may not be loaded yet
    await room.step(3)
    assert not path.exists()
    assert (room.settlement.open, room.spool.ids()) == (0, [])
    assert room.settlement.minutes.total() == 2


async def test_a_request_of_a_killed_envoy_becomes_unsettled_after_the_grace_time(
    room: Room,
) -> None:
    room.segment(an_admission(1), an_admission(2))
    room.presence.rows.add(a_key(2))
    room.reborn()
    await room.step(3)
    assert (room.settlement.open, room.spool.ids()) == (1, [])
    assert not room.settlement.is_settled(NOW)
    await room.step(30)
    assert room.spool.ids() == [1]
    assert room.metrics.value("hubgate_usage_unsettled_total") == 1
    assert not room.settlement.is_settled(NOW)  # it is not in the ledger yet
    room.spool.load()
    assert room.settlement.is_settled(NOW)
    await room.step(100)
    assert room.spool.ids() == [1]


async def test_nothing_is_unsettled_while_a_record_may_still_come(room: Room) -> None:
    room.segment(an_admission(1))
    room.reborn()
    room.is_evident = False
    await room.step(3)
    await room.step(100)
    assert room.spool.ids() == []
    room.recent.add([1])
    room.is_evident = True
    await room.step(1)
    assert (room.settlement.open, room.spool.ids()) == (0, [])


async def test_a_request_of_a_live_envoy_may_last_a_day(room: Room) -> None:
    room.segment(an_admission(1))
    room.lives.observe("node-1", "life-1", NOW)
    await room.step(3)
    await room.step(86_000)
    assert room.spool.ids() == []
    await room.step(400)
    assert room.spool.ids() == [1]


async def test_a_newer_life_is_also_learnt_from_the_journal(room: Room) -> None:
    room.segment(an_admission(1))
    await room.step(3)
    room.segment(an_admission(2, "life-2"))
    room.recent.add([2])
    await room.step(3)
    await room.step(31)
    assert room.spool.ids() == [1]


async def test_a_life_of_another_node_says_nothing(room: Room) -> None:
    room.segment(an_admission(1, "life-1", node="node-2"))
    room.reborn()
    await room.step(3)
    await room.step(100)
    assert room.spool.ids() == []


async def test_what_is_open_survives_a_restart(room: Room) -> None:
    room.segment(an_admission(1))
    await room.step(3)
    assert room.settlement.open == 1
    room.start()
    assert room.settlement.open == 1
    room.reborn()
    await room.step(31)
    assert room.spool.ids() == [1]
    room.start()
    assert room.settlement.open == 0


async def test_a_segment_that_is_written_to_is_left_alone(room: Room) -> None:
    path = room.segment(an_admission(1))
    writer: IO[bytes]
    with path.open("ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        await room.step(10)
        assert path.exists()
        assert not room.settlement.is_settled(NOW)
    await room.step()
    assert not path.exists()


async def test_a_segment_waits_until_the_spool_is_loaded_beyond_it(room: Room) -> None:
    room.spool.receive()
    path = room.segment(an_admission(1))
    await room.step(10)
    assert path.exists()
    room.spool.load()
    await room.step()
    assert not path.exists()


async def test_a_ledger_that_is_away_keeps_every_segment(room: Room) -> None:
    path = room.segment(an_admission(1))
    room.presence.is_away = True
    with pytest.raises(LedgerUnavailable):
        await room.step(3)
    assert path.exists()
    assert room.settlement.minutes.total() == 0
    room.presence.is_away = False
    await room.step()
    assert room.settlement.open == 1


async def test_a_spool_that_is_full_keeps_the_request_open(room: Room) -> None:
    room.segment(an_admission(1))
    room.reborn()
    await room.step(3)
    room.spool.is_full = True
    with pytest.raises(LedgerUnavailable):
        await room.step(30)
    room.spool.is_full = False
    await room.step()
    assert room.spool.ids() == [1]


async def test_a_line_that_the_disk_cut_off_is_counted(room: Room) -> None:
    room.segment(an_admission(1), an_admission(2)[:50])
    await room.step(3)
    assert room.settlement.open == 1
    assert room.metrics.value("hubgate_usage_torn_lines_total") == 1


class TestARequestThatEnvoyAskedAboutTwiceIsAdmittedOnce:
    """A try timed out, and another process was asked: both wrote it down."""

    async def test_by_two_writers(self, room: Room) -> None:
        room.segment(an_admission(1), an_admission(2))
        room.segment(an_admission(2), an_admission(3), writer=1)
        room.recent.add([1, 2, 3])
        await room.step(3)

        assert room.settlement.minutes.total() == 3

    async def test_by_one_writer(self, room: Room) -> None:
        room.segment(an_admission(1), an_admission(1), an_admission(2))
        room.recent.add([2])
        await room.step(3)
        room.segment(an_admission(1), an_admission(2))
        await room.step(3)

        assert room.settlement.minutes.total() == 2
        assert room.settlement.open == 1

    async def test_when_its_row_came_in_between(self, room: Room) -> None:
        room.segment(an_admission(1))
        await room.step(3)
        room.recent.add([1])
        await room.step(1)
        assert room.settlement.open == 0
        room.segment(an_admission(1))
        await room.step(3)

        assert room.settlement.minutes.total() == 1

    async def test_when_its_row_was_found_in_the_ledger(self, room: Room) -> None:
        room.segment(an_admission(1), an_admission(2))
        room.presence.rows.add(a_key(1))
        await room.step(3)
        room.presence.rows.add(a_key(2))
        await room.step(31)
        assert room.settlement.open == 0
        room.segment(an_admission(1), an_admission(2))
        await room.step(3)

        assert room.settlement.minutes.total() == 2

    async def test_when_we_started_anew_in_between(self, room: Room) -> None:
        room.segment(an_admission(1))
        await room.step(3)
        counted = room.settlement.minutes.total()
        room.start()
        room.segment(an_admission(1))
        await room.step(3)

        assert (counted, room.settlement.minutes.total()) == (1, 0)
        assert room.settlement.open == 1

    async def test_when_the_disk_was_full(self, room: Room) -> None:
        path = room.segment(an_admission(1), an_admission(2))
        room.recent.add([2])
        (room.folder / ".open.lines").mkdir()
        with pytest.raises(IsADirectoryError):
            await room.step(3)
        is_kept = path.exists()
        (room.folder / ".open.lines").rmdir()
        await room.step()

        assert (is_kept, path.exists()) == (True, False)
        assert room.settlement.minutes.total() == 2

    async def test_and_what_failed_is_counted_in_the_next_round(
        self, room: Room
    ) -> None:
        room.segment(an_admission(1))
        room.presence.is_away = True
        with pytest.raises(LedgerUnavailable):
            await room.step(3)
        room.presence.is_away = False
        await room.step()

        assert room.settlement.minutes.total() == 1
