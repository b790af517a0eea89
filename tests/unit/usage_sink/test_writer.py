"""The one task that writes."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self
from uuid import uuid4

import pytest

from runtime.clock import FakeClock
from runtime.metrics import Metrics
from usage_sink.buffer import Limits
from usage_sink.errors import LedgerOverloaded, LedgerUnavailable
from usage_sink.events import UsageEvent, read
from usage_sink.prices import NO_PRICES
from usage_sink.records import Misfit, Origin, UsageRecord
from usage_sink.store import MemoryUsageStore, Written
from usage_sink.writer import Entries, LedgerWriter

RECORDS: Final = "hubgate_usage_records_total"
MISFIT = Misfit("id is not a UUID", {"id": "17"})


def some_entries(rows: int = 1) -> Entries:
    return Entries(tuple(a_record() for _ in range(rows)))


def a_record() -> UsageRecord:
    event = read({"id": str(uuid4()), "start": "1795339815.541760"})
    assert isinstance(event, UsageEvent)
    return UsageRecord(event, NO_PRICES.charge(event), Origin("n", "local", "1"))


class GatedStore(MemoryUsageStore):
    """Writes when told to, and can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_writing = asyncio.Event()
        self.batches: list[int] = []
        self.failure: Exception | None = None

    async def write(self, records: Sequence[UsageRecord]) -> Written:
        self.is_writing.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.batches.append(len(records))
        return await super().write(records)


class Rig:
    """A running writer and what it writes to."""

    def __init__(self, *, batch_rows: int = 100, capacity_rows: int = 1000) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.store = GatedStore()
        limits = Limits(batch_rows, 0.0, capacity_rows)
        self.writer = LedgerWriter(limits, self.clock, self.metrics)
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.writer.run(self.store))
        await asyncio.sleep(0)  # one turn: the task is running
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.finish()

    async def finish(self) -> None:
        self.writer.close()
        assert self._running is not None
        async with asyncio.timeout(5):
            await self._running

    async def cut_off(self) -> None:
        """End the task as the drain deadline does."""
        assert self._running is not None
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running
        self._running = asyncio.create_task(asyncio.sleep(0))

    async def hold_a_batch(self) -> asyncio.Task[None]:
        """A batch that is being written until the gate opens."""
        self.store.gate.clear()
        self.store.is_writing.clear()
        held = asyncio.create_task(self.writer.write(some_entries()))
        await self.store.is_writing.wait()
        return held


async def test_a_write_returns_when_its_rows_are_committed() -> None:
    async with Rig() as rig:
        held = await rig.hold_a_batch()
        assert not held.done()

        rig.store.gate.set()
        await held

        assert len(rig.store.rows) == 1


async def test_what_arrives_during_a_transaction_is_the_next_one() -> None:
    async with Rig() as rig:
        held = await rig.hold_a_batch()
        others = [
            asyncio.create_task(rig.writer.write(some_entries(3))) for _ in range(4)
        ]
        await asyncio.sleep(0)
        rig.store.gate.set()
        await asyncio.gather(held, *others)

        assert rig.store.batches == [1, 12]


async def test_records_and_misfits_are_counted_by_what_became_of_them() -> None:
    async with Rig() as rig:
        records = some_entries(2).records
        await rig.writer.write(Entries(records, (MISFIT,)))
        await rig.writer.write(Entries(records[:1]))

        assert rig.store.misfits == [MISFIT]
        assert rig.metrics.value(RECORDS, result="new") == 2
        assert rig.metrics.value(RECORDS, result="known") == 1
        assert rig.metrics.value(RECORDS, result="quarantined") == 1
        assert rig.metrics.value("hubgate_usage_buffer_rows") == 0


async def test_nothing_to_write_is_answered_at_once() -> None:
    async with Rig() as rig:
        await rig.writer.write(Entries())

        assert rig.store.batches == []


async def test_beyond_the_bound_a_write_is_refused_at_once() -> None:
    async with Rig(capacity_rows=10) as rig:
        held = await rig.hold_a_batch()
        waiting = asyncio.create_task(rig.writer.write(some_entries(9)))
        await asyncio.sleep(0)

        with pytest.raises(LedgerOverloaded):
            await rig.writer.write(some_entries(1))

        rig.store.gate.set()
        await asyncio.gather(held, waiting)


@pytest.mark.parametrize(
    "failure", [LedgerUnavailable(), RuntimeError("a fault of ours")]
)
async def test_when_the_database_is_away_all_who_wait_are_told(
    failure: Exception,
) -> None:
    async with Rig() as rig:
        held = await rig.hold_a_batch()
        waiting = asyncio.create_task(rig.writer.write(some_entries()))
        await asyncio.sleep(0)
        rig.store.failure = failure
        rig.store.gate.set()

        for task in (held, waiting):
            with pytest.raises(LedgerUnavailable):
                await task

        assert rig.metrics.value("hubgate_usage_store_failures_total") == 1
        assert rig.metrics.value("hubgate_usage_buffer_rows") == 0


async def test_during_the_back_off_nothing_is_tried_and_then_it_is() -> None:
    async with Rig() as rig:
        rig.store.failure = LedgerUnavailable()
        entries = some_entries()
        for _ in range(2):  # tried once: the second is refused without a try
            with pytest.raises(LedgerUnavailable):
                await rig.writer.write(entries)
        with pytest.raises(LedgerUnavailable):
            await rig.writer.check()
        assert rig.metrics.value("hubgate_usage_store_failures_total") == 1

        rig.store.failure = None
        rig.clock.advance(0.1)
        await rig.writer.write(entries)

        await rig.writer.check()
        assert len(rig.store.rows) == 1


async def test_the_back_off_grows_to_two_seconds() -> None:
    async with Rig() as rig:
        rig.store.failure = LedgerUnavailable()
        for _ in range(8):
            with pytest.raises(LedgerUnavailable):
                await rig.writer.write(some_entries())
            rig.clock.advance(2.0)

        assert rig.metrics.value("hubgate_usage_store_failures_total") == 8


async def test_a_sender_that_has_gone_is_no_fault() -> None:
    async with Rig() as rig:
        held = await rig.hold_a_batch()
        held.cancel()
        rig.store.gate.set()
        await rig.writer.write(some_entries())

        assert len(rig.store.rows) == 2


async def test_closing_writes_what_has_been_taken_in() -> None:
    rig = Rig(batch_rows=1)
    async with rig:
        held = await rig.hold_a_batch()
        waiting = asyncio.create_task(rig.writer.write(some_entries(3)))
        await asyncio.sleep(0)
        rig.store.gate.set()
        await rig.finish()
        await asyncio.gather(held, waiting)

    assert len(rig.store.rows) == 4
    with pytest.raises(LedgerUnavailable):
        await rig.writer.write(some_entries())


async def test_what_the_drain_deadline_cuts_off_is_told_and_counted() -> None:
    async with Rig() as rig:
        held = await rig.hold_a_batch()
        waiting = asyncio.create_task(rig.writer.write(some_entries(3)))
        await asyncio.sleep(0)
        await rig.cut_off()

        for task in (held, waiting):
            with pytest.raises(LedgerUnavailable):
                await task
        assert rig.metrics.value(RECORDS, result="abandoned") == 4


async def test_before_it_runs_the_writer_is_down() -> None:
    rig = Rig()

    with pytest.raises(LedgerUnavailable):
        await rig.writer.write(some_entries())
    with pytest.raises(LedgerUnavailable):
        await rig.writer.check()
