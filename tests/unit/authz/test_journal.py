"""Every request that was let pass is on disk before its answer can be forgotten."""

import asyncio
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from authz.audit import Audit
from authz.authorizer import Authorizer, OnRedisDown
from authz.journal import Admission, Journal, Limits
from authz.service import AuthzService
from runtime.clock import FakeClock
from runtime.contracts.access_log import ADMISSION_FIELDS, JOURNAL_SUFFIX
from runtime.identity.blacklist import MemoryBlacklist
from runtime.metrics import Metrics
from tests.builders import NOW, a_check_request, a_token, a_verifier

#: A line of a request of which only a short id is known.
LINE_BYTES = len("{}\n") + sum(len(f'"{name}":null,') for name in ADMISSION_FIELDS)


class Room:
    """A journal in a folder, and what a reader finds there."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.folder = folder / "journal"
        self.clock, self.metrics = FakeClock(NOW), Metrics()
        self.journal = Journal(self.folder, self.clock, self.metrics, Limits(**limits))

    async def record(self, name: str) -> None:
        self.clock.advance(0.001)
        self.journal.record(Admission(name))
        await asyncio.sleep(0)

    def segments(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{JOURNAL_SUFFIX}"))

    def ids(self) -> list[str]:
        text = "".join(one.read_text() for one in self.segments())
        return [json.loads(line)["id"] for line in text.splitlines()]

    def lines(self, result: str) -> float:
        return self.metrics.value("hubgate_authz_journal_lines_total", result=result)


def is_locked(segment: Path) -> bool:
    with segment.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


async def test_only_requests_that_pass_are_journaled(tmp_path: Path) -> None:
    room = Room(tmp_path)
    authorizer = Authorizer(
        verifier=a_verifier(room.clock),
        blacklist=MemoryBlacklist(),
        on_redis_down=OnRedisDown.DENY,
        metrics=room.metrics,
    )
    audit = Audit({}, room.clock, lambda _: None)
    service = AuthzService(authorizer, room.metrics, audit, room.journal)
    request = a_check_request({"authorization": f"Bearer {a_token()}"})
    request.attributes.request.time.FromNanoseconds(1_795_318_224_000_042_000)
    request.attributes.request.http.path = "/api/users/me?token=secret"
    request.attributes.request.http.method = "GET"
    request.attributes.destination.labels.update({"node": "n1", "incarnation": "i1"})

    await service.check(request)
    await service.check(a_check_request({"authorization": "Bearer forged"}))
    room.journal.close()

    (segment,) = room.segments()
    (line,) = segment.read_text().splitlines()
    assert json.loads(line) == {
        "id": "00000000-0000-4000-8000-000000000001",
        "start": "1795318224.000042",
        "node": "n1",
        "incarnation": "i1",
        "route": "users",
        "service": "core-service",
        "method": "GET",
        "path": "/api/users/me",
        "user_id": "u-1",
        "role": "user",
        "reason": "token",
    }
    assert tuple(json.loads(line)) == ADMISSION_FIELDS


async def test_lines_of_one_turn_are_written_together_and_at_once(
    tmp_path: Path,
) -> None:
    room = Room(tmp_path)
    for number in range(5):
        room.journal.record(Admission(str(number)))
    assert not room.folder.exists()
    await asyncio.sleep(0)

    assert room.ids() == list("01234")
    assert room.lines("written") == 5
    room.journal.close()


async def test_a_segment_is_its_writers_until_it_is_closed(tmp_path: Path) -> None:
    room = Room(tmp_path, segment_bytes=LINE_BYTES + 1)
    await room.record("1")
    (first,) = room.segments()
    assert is_locked(first)
    await room.record("2")  # it is full
    assert not is_locked(first)
    await room.record("3")

    assert [one for one in room.segments() if is_locked(one)] == room.segments()[1:]
    room.journal.close()
    assert not any(is_locked(one) for one in room.segments())
    assert room.ids() == ["1", "2", "3"]


async def test_an_idle_segment_is_closed_in_time(tmp_path: Path) -> None:
    room = Room(tmp_path, segment_s=0.01)
    await room.record("1")
    async with asyncio.timeout(5):
        while is_locked(room.segments()[0]):
            await asyncio.sleep(0.005)

    await room.record("2")
    assert len(room.segments()) == 2
    room.journal.close()


async def test_a_full_folder_is_left_alone_and_costs_no_request(
    tmp_path: Path,
) -> None:
    room = Room(tmp_path, capacity_bytes=100, segment_s=10)
    room.folder.mkdir()
    (room.folder / f"1{JOURNAL_SUFFIX}").write_text("x" * 100)
    await room.record("1")
    (room.folder / f"1{JOURNAL_SUFFIX}").unlink()
    await room.record("2")  # it is not asked for room each time
    assert room.segments() == []
    assert (room.lines("lost"), room.lines("written")) == (2, 0)

    room.clock.advance(10)
    await room.record("3")
    assert room.ids() == ["3"]
    room.journal.close()


async def test_a_line_that_the_disk_cut_off_ends_its_segment(tmp_path: Path) -> None:
    room = Room(tmp_path, segment_s=1)
    await room.record("1")
    segment = room.journal._segment
    assert segment is not None
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, segment)
    os.close(full)
    await room.record("2")
    room.clock.advance(1)
    await room.record("3")

    assert room.ids() == ["1", "3"]
    assert room.lines("lost") == 1
    room.journal.close()
