"""The one task that writes the ledger."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import pytest

from runtime.clock import FakeClock, SystemClock
from runtime.metrics import Metrics
from usage_sink.batches import BatchLimits
from usage_sink.errors import LedgerUnavailable
from usage_sink.intake import Intake, Said, from_entries
from usage_sink.loader import Loader
from usage_sink.plain import Record
from usage_sink.pricing import PricesInForce
from usage_sink.segments import Kind
from usage_sink.spool import Bounds, Spool
from usage_sink.store import MemoryUsageStore, Written

RECORDS: Final = "hubgate_usage_records_total"


def lines(payload: bytes) -> Iterator[tuple[str, dict[str, str]]]:
    """The simplest payload: a JSON object of attributes a line."""
    for line in payload.splitlines():
        yield "node-1", json.loads(line)


def a_payload(*ids: UUID, ai: bool = False) -> bytes:
    model = {"llm_model": "m", "llm_status": "1"} if ai else {}
    return b"\n".join(
        json.dumps({"id": str(id_), "start": "1795339815.5", **model}).encode()
        for id_ in ids
    )


def ids(count: int) -> list[UUID]:
    return [uuid4() for _ in range(count)]


class GatedStore(MemoryUsageStore):
    """Writes when told to, and can be away."""

    def __init__(self, refused: frozenset[UUID] = frozenset()) -> None:
        super().__init__(refused)
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_writing = asyncio.Event()
        self.batches: list[int] = []
        self.failures: list[Exception] = []
        self.changed = asyncio.Event()

    async def write(self, records: Sequence[Record]) -> Written:
        self.is_writing.set()
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(len(records))
        written = await super().write(records)
        self.changed.set()
        return written

    async def has(self, count: int) -> None:
        while len(self.rows) < count:
            self.changed.clear()
            await self.changed.wait()

    @property
    def ids(self) -> set[UUID]:
        return {id_ for id_, _ in self.rows}


class Rig:
    """A spool in a folder, and loaders of it one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics = Metrics()
        self.store = GatedStore()
        self.observed: list[Record] = []
        self.prices_clock = FakeClock()
        self.prices_wait_s = 0.0
        self.rows = 100
        self.wait_s = 0.0
        self.is_ledger_whole = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Spool, Loader]]:
        clock = SystemClock()
        spool = Spool(self.folder, Bounds(), clock, self.metrics)
        loader = Loader(
            spool,
            self.intake(),
            BatchLimits(self.rows, self.wait_s),
            clock,
            self.metrics,
            observers=(self.observed.extend,),
        )
        loading = asyncio.create_task(loader.run(self.store))
        try:
            async with asyncio.timeout(10):
                yield spool, loader
                loader.close()
                await loading
        finally:
            loading.cancel()
            await spool.close()

    def intake(self) -> Intake:
        prices = PricesInForce(self.prices_clock, self.prices_wait_s)
        sources = {Kind.LINES: from_entries(lines), Kind.REPORT: failing}
        return Intake(prices, region="eu", version="1", sources=sources)


def failing(payload: bytes) -> Iterator[Said]:
    raise ZeroDivisionError(payload)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_what_is_appended_is_written_and_then_forgotten(rig: Rig) -> None:
    sent = ids(5)
    async with rig.running() as (spool, _):
        await spool.append(Kind.LINES, a_payload(*sent))
        await rig.store.has(5)

    assert rig.store.ids == set(sent)
    assert {record.whole().event.id for record in rig.observed} == set(sent)
    async with rig.running() as (spool, _):
        assert spool.oldest_pending() is None


async def test_what_arrives_during_a_transaction_is_the_next_one(rig: Rig) -> None:
    async with rig.running() as (spool, _):
        rig.store.gate.clear()
        await spool.append(Kind.LINES, a_payload(*ids(1)))
        await rig.store.is_writing.wait()
        for _ in range(4):
            await spool.append(Kind.LINES, a_payload(*ids(3)))
        rig.store.gate.set()
        await rig.store.has(13)

    assert rig.store.batches == [1, 12]


async def test_what_comes_after_a_pause_is_written_at_once_and_what_follows_gathers(
    rig: Rig,
) -> None:
    rig.rows, rig.wait_s = 10, 60.0
    async with rig.running() as (spool, _):
        await spool.append(Kind.LINES, a_payload(*ids(1)))
        await rig.store.has(1)
        for _ in range(5):
            await spool.append(Kind.LINES, a_payload(*ids(2)))
        await rig.store.has(11)  # a full batch waits for nothing
        await spool.append(Kind.LINES, a_payload(*ids(3)))

    assert rig.store.batches == [1, 10, 3]  # nor does the last


async def test_no_batch_is_larger_than_the_limit_however_large_a_payload_is(
    rig: Rig,
) -> None:
    rig.rows = 10
    async with rig.running() as (spool, _):
        await spool.append(Kind.LINES, a_payload(*ids(35)))
        await rig.store.has(35)

    assert rig.store.batches == [10, 10, 10, 5]


async def test_what_can_not_be_read_is_put_aside_and_holds_up_nothing(
    rig: Rig,
) -> None:
    (good,) = ids(1)
    async with rig.running() as (spool, _):
        await spool.append(Kind.OTLP, b"\xff\xff")
        await spool.append(Kind.REPORT, b"anything")
        await spool.append(Kind.LINES, b'{"id":"17","path":"/a?b"}')
        await spool.append(Kind.LINES, b"{}")  # garbage bytes on a port: no request
        await spool.append(Kind.LINES, a_payload(good))
        await rig.store.has(1)

    assert rig.store.ids == {good}
    assert [misfit.reason for misfit in rig.store.misfits] == [
        "payload can't be read: DecodeError",
        "payload can't be read: ZeroDivisionError",
        "id is not a UUID",
    ]
    assert rig.store.misfits[0].attributes["bytes"] == "2"
    assert rig.store.misfits[2].attributes["path"] == "/a"
    assert rig.metrics.value(RECORDS, result="quarantined") == 3
    assert rig.metrics.value(RECORDS, result="unidentified") == 1
    assert rig.metrics.value(RECORDS, result="new") == 1


async def test_a_record_that_makes_the_store_fail_does_not_hold_up_others(
    rig: Rig,
) -> None:
    sent = ids(4)

    class Faulty(GatedStore):
        async def write(self, records: Sequence[Record]) -> Written:
            if sent[2] in {record.whole().event.id for record in records}:
                raise RuntimeError("a fault of ours")
            return await super().write(records)

    rig.store = Faulty()
    async with rig.running() as (spool, _):
        await spool.append(Kind.LINES, a_payload(*sent))
        await rig.store.has(3)

    assert rig.store.ids == {sent[0], sent[1], sent[3]}
    assert [one.attributes["id"] for one in rig.store.misfits] == [str(sent[2])]


async def test_while_the_ledger_is_away_the_batch_is_tried_again(rig: Rig) -> None:
    sent = ids(2)
    rig.store.failures = [LedgerUnavailable(), LedgerUnavailable()]
    async with rig.running() as (spool, _):
        await spool.append(Kind.LINES, a_payload(*sent))
        await rig.store.has(2)

    assert rig.store.ids == set(sent)
    assert rig.metrics.value("hubgate_usage_store_failures_total") == 2
    assert rig.metrics.value(RECORDS, result="new") == 2


async def test_what_can_not_be_written_at_a_stop_is_there_at_the_next_start(
    rig: Rig,
) -> None:
    rig.rows = 2
    sent = ids(4)
    rig.store.failures = [LedgerUnavailable()] * 100
    async with rig.running() as (spool, _):
        await spool.append(Kind.LINES, a_payload(*sent[:2]))
        await spool.append(Kind.LINES, a_payload(*sent[2:]))
        await rig.store.is_writing.wait()
    assert rig.store.rows == {}

    rig.store.failures = []
    async with rig.running():
        await rig.store.has(4)
    assert rig.store.ids == set(sent)


async def test_nothing_after_a_batch_that_was_left_is_noted_as_loaded(
    rig: Rig,
) -> None:
    """One failure, at the stop: the batch behind it must not vouch for it."""
    rig.rows = 1
    sent = ids(2)
    async with rig.running() as (spool, loader):
        rig.store.gate.clear()
        await spool.append(Kind.LINES, a_payload(sent[0]))
        await spool.append(Kind.LINES, a_payload(sent[1]))
        await rig.store.is_writing.wait()
        rig.store.failures = [LedgerUnavailable()]
        loader.close()
        rig.store.gate.set()

    async with rig.running():
        await rig.store.has(2)
    assert rig.store.ids == set(sent)


async def test_a_batch_that_overtakes_another_does_not_vouch_for_it(rig: Rig) -> None:
    rig.rows = 1
    sent = ids(2)

    class Overtaken(GatedStore):
        async def write(self, records: Sequence[Record]) -> Written:
            is_first = any(one.whole().event.id == sent[0] for one in records)
            if is_first and not rig.is_ledger_whole:
                raise LedgerUnavailable("for this one only")
            return await super().write(records)

    rig.store = Overtaken()
    rig.is_ledger_whole = False
    async with rig.running() as (spool, _):
        for one in sent:
            await spool.append(Kind.LINES, a_payload(one))
        await rig.store.has(1)
    assert rig.store.ids == {sent[1]}

    rig.is_ledger_whole = True
    async with rig.running():
        await rig.store.has(2)
    assert rig.store.ids == set(sent)


async def test_closing_loads_what_is_there(rig: Rig) -> None:
    rig.rows = 3
    async with rig.running() as (spool, _):
        rig.store.gate.clear()
        for _ in range(4):
            await spool.append(Kind.LINES, a_payload(*ids(2)))
        rig.store.gate.set()

    assert len(rig.store.rows) == 8


async def test_a_call_without_a_price_book_holds_what_is_behind_it_for_a_time(
    rig: Rig,
) -> None:
    rig.prices_wait_s = 30.0
    before, call, behind = ids(3)
    async with rig.running() as (spool, _):
        await spool.append(Kind.LINES, a_payload(before))
        await spool.append(Kind.LINES, a_payload(call, ai=True))
        await spool.append(Kind.LINES, a_payload(behind))
        await rig.store.has(1)
        assert rig.store.ids == {before}

        rig.prices_clock.advance(30.0)
        await rig.store.has(3)

    assert rig.metrics.value("hubgate_usage_unpriced_total") == 1
    assert rig.metrics.value(RECORDS, result="known") == 0


async def test_the_event_loop_turns_while_a_large_payload_is_read(rig: Rig) -> None:
    rig.rows = 10_000
    turns = 0
    async with rig.running() as (spool, _):
        await spool.append(Kind.LINES, a_payload(*ids(4000)))
        while not rig.store.rows:
            turns += 1
            await asyncio.sleep(0)

    assert turns > 4000 / 200
