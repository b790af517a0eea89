"""What the file log has and the ledger has not goes into the spool, once."""

from pathlib import Path

import pytest

from tests.builders_evidence import NOW, Witnesses, a_key, a_log_line
from usage_sink.access_log import AccessLog
from usage_sink.errors import LedgerUnavailable
from usage_sink.reconcile import Reconciler


class Room(Witnesses):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "access.jsonl"
        self.position = folder / "position"
        self.start()

    def start(self) -> None:
        log = AccessLog(self.path, self.position)
        log.open()
        self.reconciler = Reconciler(
            log, self.presence, self.recent, self.spool, self.clock, self.metrics
        )

    def log(self, *numbers: int) -> None:
        with self.path.open("ab") as file:
            file.writelines(a_log_line(number) + b"\n" for number in numbers)

    async def step(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        await self.reconciler.step("node-1")


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


async def test_a_request_that_the_stream_lost_is_restored(room: Room) -> None:
    room.log(1, 2, 3)
    room.recent.add([1])
    room.presence.rows.add(a_key(2))
    await room.step()
    assert room.reconciler.pending == 2
    await room.step(6)

    assert room.spool.ids() == [3]
    assert room.metrics.value("hubgate_usage_reconciled_total") == 1


async def test_it_is_sent_once_also_while_it_waits_to_be_loaded(room: Room) -> None:
    room.log(1)
    await room.step()
    await room.step(6)
    await room.step(60)
    assert room.spool.ids() == [1]
    assert room.reconciler.pending == 1

    room.spool.load()
    await room.step(1)
    assert room.reconciler.pending == 0


async def test_nothing_is_missed_while_its_batch_may_wait_in_the_spool(
    room: Room,
) -> None:
    room.spool.receive()
    room.log(1)
    await room.step()
    await room.step(60)
    assert room.spool.ids() == []
    assert room.reconciler.missing(10) == 0

    room.spool.load()
    room.recent.add([1])
    await room.step()
    assert (room.reconciler.pending, room.spool.ids()) == (0, [])


async def test_it_is_complete_through_what_was_read_and_is_there(room: Room) -> None:
    assert room.reconciler.complete_through is None
    await room.step()
    assert room.reconciler.complete_through == NOW - 1
    room.log(1)
    await room.step(3)
    await room.step(1)
    assert room.reconciler.complete_through == NOW - 1  # not while 1 is open
    room.recent.add([1])
    await room.step(1)
    assert room.reconciler.complete_through == NOW + 4


async def test_what_was_there_before_the_first_look_may_have_ended_any_time(
    room: Room,
) -> None:
    room.log(1)
    await room.step()
    assert room.reconciler.complete_through is None


async def test_a_ledger_that_is_away_is_asked_again(room: Room) -> None:
    room.log(1)
    await room.step()
    room.presence.is_away = True
    with pytest.raises(LedgerUnavailable):
        await room.step(6)
    assert room.reconciler.missing(5) == 1
    room.presence.is_away = False
    await room.step()
    assert room.spool.ids() == [1]


async def test_a_spool_that_is_full_is_tried_again(room: Room) -> None:
    room.log(1)
    await room.step()
    room.spool.is_full = True
    with pytest.raises(LedgerUnavailable):
        await room.step(6)
    room.spool.is_full = False
    await room.step()
    assert room.spool.ids() == [1]


async def test_a_restart_looks_again_at_what_was_open(room: Room) -> None:
    room.log(1, 2)
    room.recent.add([1])
    await room.step()
    room.start()
    room.recent.add([1])
    await room.step()
    await room.step(6)
    assert room.spool.ids() == [2]


async def test_a_restart_does_not_read_again_what_is_done(room: Room) -> None:
    room.log(1)
    await room.step()
    await room.step(6)
    room.start()
    await room.step()
    assert room.reconciler.pending == 0


async def test_a_line_that_vanished_with_its_file_is_counted(room: Room) -> None:
    room.log(1, 2)
    await room.step()
    room.path.write_bytes(a_log_line(3) + b"\n")
    await room.step(6)
    await room.step(6)
    assert room.spool.ids() == [3]
    assert room.metrics.value("hubgate_usage_torn_lines_total") == 2
