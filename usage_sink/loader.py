"""The one task that writes the ledger: spool -> batches -> transactions.

While PostgreSQL writes one batch, the next is sent to it and the one after that is
read, mapped and priced (`batches`); more than these three are never in memory. The
spool is told only after the commit, and in the order of the batches. When the ledger is
away the batch is tried again until it is there, or until the process ends: then the
spool still has it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from runtime.clock import Clock
from runtime.lifecycle import wait_or_stop
from runtime.logs import get_logger
from runtime.metrics import Metrics
from usage_sink.batches import Batch, BatchLimits, BatchReader
from usage_sink.errors import LedgerUnavailable
from usage_sink.intake import Intake
from usage_sink.plain import Record
from usage_sink.records import UsageRecord, is_disputed, is_unpriced
from usage_sink.spool import Spool
from usage_sink.store import UsageStore, Written, misfit_of

log = get_logger(__name__)

Observer = Callable[[Sequence[Record]], None]

_FIRST_BACK_OFF_S: Final = 0.1
_LONGEST_BACK_OFF_S: Final = 2.0
_UNDER_WAY: Final = 2


class Loader:
    """`run` loads until `close`, and then what is left."""

    def __init__(
        self,
        spool: Spool,
        intake: Intake,
        limits: BatchLimits,
        clock: Clock,
        metrics: Metrics,
        *,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._spool = spool
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._observers = observers
        self._closing = asyncio.Event()
        self._reader = BatchReader(spool, intake, limits, self._closing)
        self._back_off_s = 0.0
        #: When the last batch went on its way.
        self._began = float("-inf")

    async def run(self, store: UsageStore) -> None:
        """Load batch after batch until `close`, then what is left."""
        under_way: deque[asyncio.Task[bool]] = deque()
        try:
            while True:
                last = under_way[-1] if under_way else None
                batch = await self._next_batch(last)
                if batch is None:
                    break
                self._began = self._clock.monotonic()
                if len(under_way) == _UNDER_WAY and not await under_way.popleft():
                    return
                under_way.append(asyncio.create_task(self._write(store, batch, last)))
            while under_way:
                await under_way.popleft()
        finally:
            for task in under_way:
                task.cancel()

    def close(self) -> None:
        """`run` ends when everything is loaded, or at once when it can't be."""
        self._closing.set()
        self._spool.arrived.set()

    # --- preparing

    async def _next_batch(self, writing: asyncio.Task[bool] | None) -> Batch | None:
        """The next batch, full or as large as is worth waiting for; None: no more."""
        batch = Batch()
        wait_until: float | None = None
        while True:
            self._spool.arrived.clear()
            await self._reader.fill(batch)
            if batch.rows >= self._limits.rows:
                return batch
            is_busy = writing is not None and not writing.done()
            if writing is not None and not is_busy:
                writing.result()  # a fault of ours ends the process
            if self._closing.is_set():
                return None if batch.is_empty else batch
            now = self._clock.monotonic()
            if not batch.is_empty and wait_until is None:
                wait_until = max(now, self._began + self._limits.wait_s)
            if wait_until is not None and now >= wait_until and not is_busy:
                return batch
            await self._wait(writing if is_busy else None, wait_until)

    async def _wait(
        self, writing: asyncio.Task[bool] | None, until: float | None
    ) -> None:
        """Until there is more to read, nothing under way, or a batch is due."""
        arriving = asyncio.ensure_future(self._spool.arrived.wait())
        pending: set[asyncio.Future[object]] = {arriving}  # type: ignore[arg-type]  # any result will do
        timeout = None
        if writing is not None:
            pending.add(writing)  # type: ignore[arg-type]  # as above
        elif until is not None:
            timeout = max(until - self._clock.monotonic(), 0)
        try:
            await asyncio.wait(pending, timeout=timeout, return_when="FIRST_COMPLETED")
        finally:
            arriving.cancel()

    # --- writing

    async def _write(
        self, store: UsageStore, batch: Batch, earlier: asyncio.Task[bool] | None
    ) -> bool:
        """True when all is committed up to here; False: left to the next start."""
        while (written := await self._try(store, batch)) is None:
            if self._closing.is_set() or not await self._back_off():
                log.warning("rows left in the spool", rows=batch.rows)
                return False
        self._back_off_s = 0.0
        self._count(batch, written)
        for observe in self._observers:
            observe(batch.records)
        # In order: what is noted as loaded vouches for all before it.
        if earlier is not None and not await earlier:
            return False
        if batch.end is not None:
            await self._spool.loaded(batch.end)
        self._show()
        return True

    async def _try(self, store: UsageStore, batch: Batch) -> Written | None:
        """None: the ledger is away."""
        started = self._clock.monotonic()
        try:
            written = await self._store(store, batch.records)
            await store.quarantine(batch.misfits)
        except LedgerUnavailable as error:
            log.warning("ledger not reachable", why=str(error))
            self._metrics.inc("hubgate_usage_store_failures_total")
            return None
        seconds = self._clock.monotonic() - started
        self._metrics.observe("hubgate_usage_write_seconds", seconds)
        return written

    async def _store(self, store: UsageStore, records: Sequence[Record]) -> Written:
        """Write; what only one record makes fail is put aside, and the rest written."""
        try:
            return await store.write(records)
        except LedgerUnavailable:
            raise
        except Exception as error:
            log.exception("batch not written", rows=len(records))
            if len(records) == 1:
                reason = f"can't be written: {type(error).__name__}"
                await store.quarantine([misfit_of(records[0], reason)])
                return Written(quarantined=1)
        middle = len(records) // 2
        first = await self._store(store, records[:middle])
        return first + await self._store(store, records[middle:])

    async def _back_off(self) -> bool:
        """Wait; False when the process is ending."""
        self._back_off_s = min(
            self._back_off_s * 2 or _FIRST_BACK_OFF_S, _LONGEST_BACK_OFF_S
        )
        self._show()
        return not await wait_or_stop(self._closing, self._back_off_s)

    def _count(self, batch: Batch, written: Written) -> None:
        for result, amount in (
            ("new", written.new),
            ("known", written.known),
            ("quarantined", written.quarantined + len(batch.misfits)),
            ("unidentified", batch.not_requests),
        ):
            self._metrics.inc("hubgate_usage_records_total", amount, result=result)
        priced = [one for one in batch.records if isinstance(one, UsageRecord)]
        unpriced = sum(map(is_unpriced, priced))
        self._metrics.inc("hubgate_usage_unpriced_total", unpriced)
        disputed = sum(map(is_disputed, priced))
        self._metrics.inc("hubgate_usage_credit_differences_total", disputed)
        self._metrics.observe("hubgate_usage_batch_rows", batch.rows)

    def _show(self) -> None:
        oldest = self._spool.oldest_pending()
        age = 0.0 if oldest is None else max(self._clock.now() - oldest, 0.0)
        self._metrics.set("hubgate_usage_pending_seconds", age)
