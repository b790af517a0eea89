"""The one task that writes: it turns what many callers bring into few transactions.

Group commit: while one transaction runs, what arrives is gathered into the next. A
caller's `write` returns when its rows are committed. When the database is away, all
who wait are told so at once (Envoy keeps the batch and sends it again), and for a
back-off time newcomers are told without a try.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from runtime.clock import Clock
from runtime.logs import get_logger
from runtime.metrics import Metrics
from usage_sink.buffer import Buffer, Limits
from usage_sink.errors import LedgerOverloaded, LedgerUnavailable
from usage_sink.records import Misfit, UsageRecord, is_unpriced
from usage_sink.store import UsageStore, Written

log = get_logger(__name__)

_FIRST_BACK_OFF_S: Final = 0.1
_LONGEST_BACK_OFF_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Entries:
    """What one message brought, converted."""

    records: tuple[UsageRecord, ...] = ()
    misfits: tuple[Misfit, ...] = ()

    @property
    def rows(self) -> int:
        return len(self.records) + len(self.misfits)


@dataclass(frozen=True, slots=True)
class _Group:
    entries: Entries
    committed: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def rows(self) -> int:
        return self.entries.rows


class LedgerWriter:
    """`run` writes until `close`; before and after, `write` raises."""

    def __init__(self, limits: Limits, clock: Clock, metrics: Metrics) -> None:
        self._buffer: Buffer[_Group] = Buffer(limits)
        self._clock = clock
        self._metrics = metrics
        self._arrived = asyncio.Event()
        self._is_running = False
        self._is_closing = False
        self._back_off_s = 0.0
        self._away_until = 0.0

    async def write(self, entries: Entries) -> None:
        """Return when `entries` are committed.

        Raises:
            LedgerUnavailable: not written, or not known to be.
            LedgerOverloaded: nothing was taken in.
        """
        if not entries.rows:
            return
        if not self._is_running or self._is_closing:
            raise LedgerUnavailable("the writer is not running")
        now = self._clock.monotonic()
        if now < self._away_until:
            raise LedgerUnavailable("the database is away")
        group = _Group(entries)
        if not self._buffer.offer(group, now):
            raise LedgerOverloaded
        self._show_depth()
        self._arrived.set()
        await group.committed

    async def check(self) -> None:
        """A health check.

        Raises:
            LedgerUnavailable: nothing can be written now.
        """
        if not self._is_running or self._back_off_s:
            raise LedgerUnavailable

    async def run(self, store: UsageStore) -> None:
        """Write batch after batch until `close`, then what is left."""
        self._is_running = True
        try:
            while await self._is_batch_due():
                await self._write_batch(store)
        finally:
            self._is_running = False
            self._abandon()

    def close(self) -> None:
        """Take nothing more in; `run` ends when everything is written."""
        self._is_closing = True
        self._arrived.set()

    async def _is_batch_due(self) -> bool:
        """Wait for a batch; False when there will be none."""
        while True:
            due_in = self._buffer.due_in(self._clock.monotonic())
            if due_in is None and self._is_closing:
                return False
            if due_in == 0 or (due_in is not None and self._is_closing):
                return True
            self._arrived.clear()
            await _wait(self._arrived.wait, due_in)

    async def _write_batch(self, store: UsageStore) -> None:
        groups = self._buffer.take()
        started = self._clock.monotonic()
        try:
            written = await self._store(store, groups)
        except Exception as error:  # noqa: BLE001 - the writer outlives any failure
            self._fail(groups, error)
        except asyncio.CancelledError:
            _refuse(groups, LedgerUnavailable("shutting down"))
            self._count_abandoned(groups)
            raise
        else:
            self._back_off_s = 0.0
            self._count(groups, written, self._clock.monotonic() - started)
            for group in groups:
                if not group.committed.done():
                    group.committed.set_result(None)
        finally:
            self._buffer.release(groups)
            self._show_depth()

    async def _store(self, store: UsageStore, groups: list[_Group]) -> Written:
        records = [record for group in groups for record in group.entries.records]
        written = await store.write(records)
        await store.quarantine(
            [misfit for group in groups for misfit in group.entries.misfits]
        )
        return written

    def _fail(self, groups: list[_Group], error: Exception) -> None:
        if isinstance(error, LedgerUnavailable):
            log.warning("ledger not reachable", why=str(error))
        else:
            log.error("batch not written", exc_info=error)
        self._metrics.inc("hubgate_usage_store_failures_total")
        self._back_off_s = min(
            self._back_off_s * 2 or _FIRST_BACK_OFF_S, _LONGEST_BACK_OFF_S
        )
        self._away_until = self._clock.monotonic() + self._back_off_s
        waiting = self._buffer.take_all()
        _refuse([*groups, *waiting], LedgerUnavailable(str(error)))
        self._buffer.release(waiting)

    def _abandon(self) -> None:
        groups = self._buffer.take_all()
        _refuse(groups, LedgerUnavailable("shutting down"))
        self._count_abandoned(groups)
        self._buffer.release(groups)

    def _count_abandoned(self, groups: list[_Group]) -> None:
        rows = sum(group.rows for group in groups)
        if rows:
            log.warning("entries not written; their senders were told", rows=rows)
            self._metrics.inc("hubgate_usage_records_total", rows, result="abandoned")

    def _count(self, groups: list[_Group], written: Written, seconds: float) -> None:
        misfits = sum(len(group.entries.misfits) for group in groups)
        for result, amount in (
            ("new", written.new),
            ("known", written.known),
            ("quarantined", written.quarantined + misfits),
        ):
            self._metrics.inc("hubgate_usage_records_total", amount, result=result)
        unpriced = sum(
            is_unpriced(record) for group in groups for record in group.entries.records
        )
        self._metrics.inc("hubgate_usage_unpriced_total", unpriced)
        self._metrics.observe(
            "hubgate_usage_batch_rows", sum(group.rows for group in groups)
        )
        self._metrics.observe("hubgate_usage_write_seconds", seconds)

    def _show_depth(self) -> None:
        self._metrics.set("hubgate_usage_buffer_rows", self._buffer.rows)


def _refuse(groups: list[_Group], error: LedgerUnavailable) -> None:
    for group in groups:
        if not group.committed.done():
            group.committed.set_exception(error)


async def _wait(event: Callable[[], Awaitable[object]], seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event()
    except TimeoutError:
        return
