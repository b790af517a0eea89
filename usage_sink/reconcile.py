"""Every request of Envoy's file log gets its row, also when its batch never came.

The stream of batches is the usual way; here is looked up what it did not bring. Of
each line only the key is kept in memory, and a line is read again when it is missed.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

from runtime.clock import Clock
from runtime.logs import get_logger
from runtime.metrics import Metrics
from usage_sink import lines
from usage_sink.access_log import AccessLog, Block, LogFile
from usage_sink.presence import Presence
from usage_sink.recent import RecentIds
from usage_sink.segments import Kind

log = get_logger(__name__)

#: A row is expected from the stream for so long.
_GRACE_S: Final = 5.0
#: Envoy holds a line back for its flush interval; until then it is not in the file.
FLUSH_S: Final = 1.0
#: Reading stops while so many wait for their rows: the file keeps the rest.
_MOST_PENDING: Final = 20_000
_ASKED_AT_ONCE: Final = 10_000
_LINES_AT_ONCE: Final = 500


class Spool(Protocol):
    """What evidence needs of the spool."""

    async def append(self, kind: Kind, payload: bytes) -> None: ...

    def oldest_pending(self) -> float | None: ...


def is_loaded(spool: Spool, received: float) -> bool:
    """Whatever the spool received until then is in the ledger."""
    oldest = spool.oldest_pending()
    return oldest is None or oldest > received


@dataclass(slots=True)
class _Pending:
    start: str
    source: LogFile
    offset: int
    length: int
    read_at: float
    #: The request ended after this; None: nobody knows.
    ended_after: float | None
    sent_at: float | None = None


class Reconciler:
    """`step` reads on and settles what is due; times are Unix seconds."""

    def __init__(
        self,
        access_log: AccessLog,
        presence: Presence,
        recent: RecentIds,
        spool: Spool,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._log = access_log
        self._presence = presence
        self._recent = recent
        self._spool = spool
        self._clock = clock
        self._metrics = metrics
        self._pending: dict[int, _Pending] = {}
        #: All that ended before this has been read.
        self._read_through: float | None = None

    @property
    def pending(self) -> int:
        return len(self._pending)

    @property
    def complete_through(self) -> float | None:
        """Every request that ended before this and was logged has its row."""
        if not self._pending:
            return self._read_through
        ends = [one.ended_after for one in self._pending.values()]
        known = [one for one in ends if one is not None]
        return min(known) if len(known) == len(ends) else None

    def missing(self, after_s: float) -> int:
        """Requests without a row so long after they were read, with all loaded."""
        limit = self._clock.now() - after_s
        if not is_loaded(self._spool, limit):
            return 0
        return sum(one.read_at < limit for one in self._pending.values())

    async def step(self, node: str) -> None:
        """One round; lines of the file are `node`'s.

        Raises:
            LedgerUnavailable: the ledger or the spool; the next round goes on.
            OSError: the file can't be read.
        """
        await self._read()
        self._drop_present()
        await self._settle_due(node)
        await self._note()

    async def _read(self) -> None:
        while len(self._pending) < _MOST_PENDING:
            now = self._clock.now()
            found = await asyncio.to_thread(self._next, self._clock.monotonic())
            if found is None:
                self._read_through = now - FLUSH_S
                return
            self._take(*found, now)

    def _next(self, monotonic: float) -> tuple[Block, lines.Found] | None:
        block = self._log.next(monotonic)
        if block is None:
            return None
        return block, lines.find(block.data, block.offset, self._recent)

    def _take(self, block: Block, found: lines.Found, now: float) -> None:
        if found.torn:
            self._metrics.inc("hubgate_usage_torn_lines_total", found.torn)
        for one in found.logged:
            if one.id not in self._pending:
                self._pending[one.id] = _Pending(
                    one.start,
                    block.source,
                    one.offset,
                    one.length,
                    now,
                    self._read_through,
                )

    def _drop_present(self) -> None:
        for id_ in [id_ for id_ in self._pending if id_ in self._recent]:
            del self._pending[id_]

    async def _settle_due(self, node: str) -> None:
        oldest = self._spool.oldest_pending()
        now = self._clock.now()
        loaded = now if oldest is None else oldest
        limit = min(now - _GRACE_S, loaded)
        due: list[int] = []
        for id_, one in list(self._pending.items()):
            if one.sent_at is None:
                if one.read_at < limit:
                    due.append(id_)
            elif one.sent_at < loaded or oldest is None:
                # It is in the ledger now, or in quarantine.
                del self._pending[id_]
        for first in range(0, len(due), _ASKED_AT_ONCE):
            await self._settle(due[first : first + _ASKED_AT_ONCE], node)

    async def _settle(self, due: Sequence[int], node: str) -> None:
        keys = [(id_, self._pending[id_].start) for id_ in due]
        absent = await self._presence.absent(keys)
        for id_ in due:
            if id_ not in absent:
                del self._pending[id_]
        missed = iter([id_ for id_ in due if id_ in absent])
        while some := list(islice(missed, _LINES_AT_ONCE)):
            await self._send(some, node)

    async def _send(self, missed: list[int], node: str) -> None:
        entries = await asyncio.to_thread(self._entries, missed)
        if entries:
            payload = lines.payload_of(node, list(entries.values()))
            await self._spool.append(Kind.LINES, payload)
        sent_at = self._clock.now()
        for id_ in missed:
            if id_ in entries:
                self._pending[id_].sent_at = sent_at
            else:  # the file was emptied under our hands
                del self._pending[id_]
                self._metrics.inc("hubgate_usage_torn_lines_total")
        if entries:
            log.warning("requests restored from the file log", rows=len(entries))
            self._metrics.inc("hubgate_usage_reconciled_total", len(entries))

    def _entries(self, missed: Sequence[int]) -> dict[int, dict[str, Any]]:
        found = {}
        for id_ in missed:
            one = self._pending[id_]
            line = self._log.line(one.source, one.offset, one.length)
            entry = lines.whole(line)
            if entry is not None and _int(entry["id"]) == id_:
                found[id_] = entry
        return found

    async def _note(self) -> None:
        first: dict[int, int] = {}
        for one in self._pending.values():
            if one.sent_at is None:
                inode = one.source.inode
                first[inode] = min(one.offset, first.get(inode, one.offset))
        await asyncio.to_thread(self._log.note, first)


def _int(id_: str) -> int:
    return int(id_.replace("-", ""), 16)
