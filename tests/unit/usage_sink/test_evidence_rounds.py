"""A witness that fails, fails alone, and never stops the ledger."""

from pathlib import Path

import pytest

from runtime.clock import FakeClock
from runtime.contracts.access_log import JOURNAL_SUFFIX
from runtime.metrics import Metrics
from runtime.settings import Address
from tests.builders_evidence import NOW, MemorySpool, a_log_line
from tests.builders_ledger import a_record
from usage_sink.evidence import Evidence, Place
from usage_sink.evidence_settings import EvidenceSettings

NOWHERE = "postgresql://127.0.0.1:1/x"


class Room:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock, self.metrics = FakeClock(NOW), Metrics()
        self.log = folder / "access.jsonl"
        self.journal = folder / "journal"

    def evidence(self) -> Evidence:
        settings = EvidenceSettings(
            database_url=NOWHERE,
            authz_journal_dir=self.journal,
            access_log_file=self.log,
            envoy_admin=Address(path=f"{self.folder}/envoy.sock"),
        )
        place, spool = Place("node-1", self.folder), MemorySpool(self.clock)
        return Evidence(settings, place, spool, self.clock, self.metrics)

    def failures(self, part: str) -> float:
        return self.metrics.value("hubgate_usage_evidence_failures_total", part=part)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


async def test_nothing_is_there_yet_and_each_round_goes_on(room: Room) -> None:
    evidence = room.evidence()
    for _ in range(3):
        await evidence._round()
    await evidence._release()

    assert room.failures("envoy") >= 3
    assert room.failures("ledger") >= 3  # no database: nothing is claimed
    assert (room.failures("file log"), room.failures("journal")) == (0, 0)
    assert room.metrics.value("hubgate_usage_missing") == 0


async def test_a_file_that_cannot_be_read_leaves_the_others_asked(room: Room) -> None:
    room.log.mkdir()
    room.journal.mkdir()
    (room.journal / f"1-0{JOURNAL_SUFFIX}").mkdir()
    room.clock.advance(365 * 86_400)  # the folder is made by the real clock
    evidence = room.evidence()
    await evidence._part("open", evidence._open())
    await evidence._round()
    await evidence._release()

    for part in ("envoy", "file log", "journal", "ledger"):
        assert room.failures(part) >= 1


async def test_what_the_loader_committed_is_not_asked_for(room: Room) -> None:
    evidence = room.evidence()
    record = a_record()
    room.log.write_bytes(a_log_line(record.event.id.int) + b"\n")
    evidence.committed([record])
    room.clock.advance(1)
    await evidence._round()
    room.clock.advance(100)
    await evidence._round()
    await evidence._release()

    assert room.failures("file log") == 0
    assert room.metrics.value("hubgate_usage_missing") == 0


async def test_a_request_without_a_row_is_an_alarm_after_a_minute(room: Room) -> None:
    evidence = room.evidence()
    room.log.write_bytes(a_log_line(1) + b"\n")
    missing = []
    for _ in range(3):
        await evidence._round()
        missing.append(room.metrics.value("hubgate_usage_missing"))
        room.clock.advance(40)
    await evidence._release()

    assert missing == [0, 0, 1]
