"""What the spool holds, read, mapped and priced, as the rows of one transaction."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from runtime.lifecycle import wait_or_stop
from runtime.logs import get_logger
from usage_sink.errors import PricesPending
from usage_sink.events import NotARequest
from usage_sink.intake import Intake, Item
from usage_sink.plain import PlainRecord, Record
from usage_sink.records import Misfit, UsageRecord
from usage_sink.segments import Entry, Position
from usage_sink.spool import Spool

log = get_logger(__name__)

#: Several of Envoy's batches.
_READ_BYTES: Final = 512 * 1024
#: Records between two turns of the event loop: below 10 ms.
_SLICE: Final = 200
_PRICES_RETRY_S: Final = 0.2
_SPOOL_RETRY_S: Final = 1.0

_Begun = tuple[Entry, Iterator[Item]]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """`rows` are written at once; fewer, when the batch before began `wait_s` ago.

    So what comes after a pause is written at once, and what comes steadily in a few
    transactions a second: half of what a small one costs does not depend on its rows.
    """

    rows: int
    wait_s: float


@dataclass(slots=True)
class Batch:
    """Rows of one transaction; `end` is what the spool is told then."""

    records: list[Record] = field(default_factory=list)
    misfits: list[Misfit] = field(default_factory=list)
    not_requests: int = 0
    end: Position | None = None

    @property
    def rows(self) -> int:
        return len(self.records) + len(self.misfits)

    @property
    def is_empty(self) -> bool:
        return self.end is None and not self.rows

    def add(self, items: Iterable[Item]) -> None:
        for item in items:
            match item:
                case PlainRecord() | UsageRecord():
                    self.records.append(item)
                case Misfit():
                    self.misfits.append(item)
                case NotARequest():
                    self.not_requests += 1

    def mark(self) -> tuple[int, int, int]:
        return len(self.records), len(self.misfits), self.not_requests

    def back_to(self, mark: tuple[int, int, int]) -> None:
        """Take back what was added since."""
        records, misfits, self.not_requests = mark
        del self.records[records:]
        del self.misfits[misfits:]


class BatchReader:
    """Fills one batch after the other; does not wait long once `closing` is set."""

    def __init__(
        self,
        spool: Spool,
        intake: Intake,
        limits: BatchLimits,
        closing: asyncio.Event,
    ) -> None:
        self._spool = spool
        self._intake = intake
        self._limits = limits
        self._closing = closing
        #: Entries read from the spool and not begun; the one that is, and what is left.
        self._entries: list[Entry] = []
        self._begun: _Begun | None = None

    async def fill(self, batch: Batch) -> None:
        """Add what can be read now, up to the limit."""
        while batch.rows < self._limits.rows:
            begun = self._begun or await self._begin_next()
            if begun is None:
                return
            entry, items = begun
            mark = batch.mark()
            try:
                is_done = await self._take(batch, items)
            except PricesPending:
                batch.back_to(mark)
                await self._hold(entry)
                return
            if is_done:
                self._begun = None
                batch.end = entry.end

    async def _begin_next(self) -> _Begun | None:
        if not self._entries:
            try:
                chunk = await self._spool.read(_READ_BYTES)
            except OSError as error:
                log.error("spool can't be read", error=str(error))  # noqa: TRY400 - expected, no traceback
                await wait_or_stop(self._closing, _SPOOL_RETRY_S)
                return None
            if chunk is None:
                return None
            self._entries = chunk.entries[::-1]
        return self._begin(self._entries.pop())

    def _begin(self, entry: Entry) -> _Begun:
        self._begun = (entry, self._intake.read(entry))
        return self._begun

    async def _take(self, batch: Batch, items: Iterator[Item]) -> bool:
        """Add items up to the limit; True when these were all."""
        while (room := self._limits.rows - batch.rows) > 0:
            wanted = min(room, _SLICE)
            found = list(islice(items, wanted))
            batch.add(found)
            await asyncio.sleep(0)
            if len(found) < wanted:
                return True
        return False

    async def _hold(self, entry: Entry) -> None:
        """Begin the entry again after a moment; what came before it may go."""
        self._begin(entry)
        await wait_or_stop(self._closing, _PRICES_RETRY_S)
        self._spool.arrived.set()
