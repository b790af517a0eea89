"""What has been received and is not in the ledger yet, on local disk.

Promises:
- `append` returns when the record is on the disk. Appends that arrive while one fsync
  runs share the next (group commit).
- Nothing that was taken is ever dropped. At the bound, or when the disk has no room,
  a new record is refused; its sender keeps it and sends it again.
- A record is read until `loaded` says that it is in the ledger: after a crash some
  are read twice, none is missed. A write that a crash tore is passed over: it was not
  acknowledged.
- After a failed write or fsync nothing more goes into that segment: what the disk has
  of it is not known. Its acknowledged part is read, and the next record begins a new
  one.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from runtime.clock import Clock
from runtime.logs import get_logger
from runtime.metrics import Metrics
from usage_sink.errors import SpoolFull, SpoolUnavailable
from usage_sink.segments import (
    HEADER_BYTES,
    Entry,
    Kind,
    Position,
    Scan,
    end_record,
    header,
    is_end,
    received_at,
    scan,
)
from usage_sink.spool_folder import SpoolFolder, write_all

__all__ = ["SEGMENT_BYTES", "Bounds", "Chunk", "Entry", "Kind", "Position", "Spool"]

log = get_logger(__name__)

SEGMENT_BYTES: Final = 16 * 1024 * 1024
_GROUP_BYTES: Final = 4 * 1024 * 1024
#: In memory, while the disk is slow.
_WAITING_BYTES: Final = 32 * 1024 * 1024
#: After a failure of the disk, until the next try.
_PAUSE_S: Final = 0.5
#: A failure counts as present for so long when nothing is tried.
_REMEMBERED_S: Final = 5.0
_FULL: Final = "full"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of the whole spool, and of one segment."""

    total_bytes: int = 2 * 1024**3
    segment_bytes: int = SEGMENT_BYTES


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive entries; `end` is what `loaded` is told when they are."""

    entries: list[Entry]
    end: Position


@dataclass(slots=True)
class _Waiting:
    received: float
    blocks: tuple[bytes, bytes]
    durable: asyncio.Future[None]

    @property
    def size(self) -> int:
        return len(self.blocks[0]) + len(self.blocks[1])


class Spool:
    """One folder of segments; opening it blocks for a moment."""

    def __init__(
        self, folder: Path, bounds: Bounds, clock: Clock, metrics: Metrics
    ) -> None:
        """Take the folder.

        Raises:
            SpoolInUse: another process has it.
            OSError: it can't be used.
        """
        self._folder = SpoolFolder(folder)
        self._bounds = bounds
        self._clock = clock
        self._metrics = metrics
        #: Writing and reading at the same time.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="spool")
        #: Bytes to read of each segment: what is durable of it.
        self._sizes = self._folder.segments()
        self._loaded = self._cursor = self._folder.position()
        self._next_number = max(self._folder.first_free(), self._cursor.segment)
        self._own: set[int] = set()
        self._damaged: set[int] = set()
        self._active: tuple[int, int] | None = None  # number, file descriptor
        self._waiting: deque[_Waiting] = deque()
        self._group: list[_Waiting] = []
        self._waiting_bytes = 0
        self._committing: asyncio.Task[None] | None = None
        #: Chunks that are read and not loaded: where each ends, when it was received.
        self._taken: deque[tuple[Position, float]] = deque()
        self._last_received = 0.0
        self._peeked: tuple[Position, float] | None = None
        self._paused_until = 0.0
        self._trouble = ""
        self._tidying = asyncio.Lock()
        self._is_closed = False
        #: Set whenever there may be more to read.
        self.arrived = asyncio.Event()
        self._show()

    def __repr__(self) -> str:
        return f"<Spool {self.size} bytes in {len(self._sizes)} segments>"

    @property
    def identity(self) -> str:
        """A UUID, made with the folder."""
        return self._folder.identity

    @property
    def size(self) -> int:
        """On disk, also what is loaded and not yet removed."""
        return sum(self._sizes.values())

    async def append(self, kind: Kind, payload: bytes) -> None:
        """Return when `payload` is durable.

        Raises:
            SpoolFull: nothing was taken; there is no room by our own bound.
            SpoolUnavailable: nothing was acknowledged; the disk failed or is full.
        """
        size = HEADER_BYTES + len(payload)
        self._admit(size)
        now = self._clock.now()
        head = header(kind, now, payload)
        durable = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(now, (head, payload), durable))
        self._waiting_bytes += size
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all())
        await durable

    def oldest_pending(self) -> float | None:
        """Unix time at which the oldest entry that is not loaded was received.

        None: everything is loaded. Never later than the truth.
        """
        if self._taken:
            return self._taken[0][1]
        while (place := self._next_place()) is not None:
            received = self._peek(place)
            if received is not None:
                return received
            self._cursor = Position(place.segment + 1, 0)
        waiting = (*self._group, *self._waiting)
        return min((one.received for one in waiting), default=None)

    async def check(self) -> None:
        """A health check.

        Raises:
            SpoolUnavailable: records are being refused.
        """
        is_recent = self._clock.monotonic() < self._paused_until + _REMEMBERED_S
        if self._is_closed or self._trouble == _FULL or (self._trouble and is_recent):
            raise SpoolUnavailable(self._trouble)

    async def read(self, most_bytes: int) -> Chunk | None:
        """The next entries, about so many bytes of them; None: nothing to read now.

        Raises:
            OSError: the disk can't be read.
        """
        while (place := self._next_place()) is not None:
            found = await self._scan(place, most_bytes)
            self._advance(place, found)
            if found.entries:
                first, last = found.entries[0], found.entries[-1]
                self._taken.append((self._cursor, first.received))
                self._last_received = last.received
                return Chunk(found.entries, self._cursor)
        if not self._taken:
            await self._forget(self._cursor)
        return None

    async def loaded(self, end: Position) -> None:
        """Everything before `end` is in the ledger, for good."""
        while self._taken and self._taken[0][0] <= end:
            self._taken.popleft()
        await self._forget(end)

    async def close(self) -> None:
        """Write what was taken in, and let the folder go."""
        self._is_closed = True
        if self._committing is not None:
            await self._committing
        with suppress(OSError):
            await self._in_thread(self._end_active)
        self._threads.shutdown()
        self._folder.close()

    # --- writing

    def _admit(self, size: int) -> None:
        if self._is_closed:
            raise SpoolUnavailable("shutting down")
        if self.size + self._waiting_bytes + size > self._bounds.total_bytes:
            self._tell(_FULL)
            self._metrics.inc("hubgate_usage_spool_refused_total", reason=_FULL)
            raise SpoolFull
        if self._clock.monotonic() < self._paused_until:
            self._metrics.inc("hubgate_usage_spool_refused_total", reason="disk")
            raise SpoolUnavailable(self._trouble)
        if self._waiting and self._waiting_bytes + size > _WAITING_BYTES:
            self._metrics.inc("hubgate_usage_spool_refused_total", reason="slow")
            raise SpoolUnavailable("the disk is too slow")

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                self._group = self._next_group()
                await self._commit(self._group)
                self._group = []
        finally:
            self._committing = None

    def _next_group(self) -> list[_Waiting]:
        group = [self._waiting.popleft()]
        size = group[0].size
        while self._waiting and size + self._waiting[0].size <= _GROUP_BYTES:
            size += self._waiting[0].size
            group.append(self._waiting.popleft())
        return group

    async def _commit(self, group: list[_Waiting]) -> None:
        data = b"".join(block for one in group for block in one.blocks)
        error: OSError | None = None
        try:
            await self._write(data)
        except OSError as failure:
            error = failure
            await self._poison()
            self._paused_until = self._clock.monotonic() + _PAUSE_S
            self._tell(f"disk: {failure.strerror or failure}")
            self._metrics.inc(
                "hubgate_usage_spool_refused_total", len(group), reason="disk"
            )
        else:
            self._tell("")
            self.arrived.set()
        finally:
            self._waiting_bytes -= len(data)
        for one in group:
            _settle(one.durable, error)
        self._show()

    async def _write(self, data: bytes) -> None:
        number, file = await self._segment_for(len(data))
        await self._in_thread(lambda: write_all(file, data))
        self._sizes[number] += len(data)

    async def _segment_for(self, size: int) -> tuple[int, int]:
        """The active segment, or a new one when that has no room for `size`."""
        if self._active is not None:
            used = self._sizes[self._active[0]]
            if not used or used + size <= self._bounds.segment_bytes:
                return self._active
            await self._in_thread(self._end_active)
        number = self._next_number
        file = await self._in_thread(lambda: self._folder.create(number))
        self._next_number += 1
        self._active = (number, file)
        self._sizes[number] = 0
        self._own.add(number)
        return self._active

    def _end_active(self) -> None:
        if self._active is None:
            return
        _, file = self._active
        self._active = None
        try:
            write_all(file, end_record())
        finally:
            os.close(file)

    async def _poison(self) -> None:
        if self._active is None:
            return
        (number, file), self._active = self._active, None
        size = self._sizes[number]

        def give_back() -> None:
            with suppress(OSError):
                os.ftruncate(file, size)
            os.close(file)
            if not size:
                self._folder.remove(number)

        await self._in_thread(give_back)
        if not size:
            del self._sizes[number]

    # --- reading

    def _next_place(self) -> Position | None:
        """Where the next record is, without I/O."""
        for number, size in self._sizes.items():
            if number < self._cursor.segment:
                continue
            offset = self._cursor.offset if number == self._cursor.segment else 0
            if offset < size:
                return Position(number, offset)
        return None

    async def _scan(self, place: Position, most_bytes: int) -> Scan:
        left = self._sizes[place.segment] - place.offset
        found = await self._scan_bytes(place, min(most_bytes, left))
        if not found.entries and found.size < found.wanted <= left:
            found = await self._scan_bytes(place, found.wanted)
        if not found.entries and found.is_stuck and found.size < left:
            found = await self._scan_bytes(place, left)
        return found

    async def _scan_bytes(self, place: Position, count: int) -> Scan:
        def work() -> Scan:
            return scan(self._folder.read(place, count), place)

        return await self._in_thread(work)

    def _advance(self, place: Position, found: Scan) -> None:
        number, offset = place.segment, place.offset + found.consumed
        if found.damaged:
            self._damage(number, found.damaged)
        is_at_limit = place.offset + found.size >= self._sizes[number]
        is_lost = not found.entries and (found.is_stuck or found.wanted) and is_at_limit
        if is_lost and number in self._own:
            # Of our own segments every byte to read was acknowledged, and ends a
            # record; what has come since begins there.
            self._damage(number, found.size - found.consumed)
            self._cursor = Position(number, place.offset + found.size)
        elif is_lost or found.has_end or self._is_over(number, offset):
            self._cursor = Position(number + 1, 0)
        else:
            self._cursor = Position(number, offset)

    def _is_over(self, number: int, offset: int) -> bool:
        is_active = self._active is not None and self._active[0] == number
        return offset >= self._sizes[number] and not is_active

    def _damage(self, number: int, size: int) -> None:
        log.error("spool segment is damaged", segment=number, unreadable_bytes=size)
        self._metrics.inc("hubgate_usage_spool_damaged_total")
        self._damaged.add(number)

    def _peek(self, place: Position) -> float | None:
        """When the record at `place` was received; None: its segment ends there."""
        if self._peeked is None or self._peeked[0] != place:
            try:
                block = self._folder.read(place, HEADER_BYTES)
            except OSError:
                return self._last_received
            if is_end(block):
                return None
            received = received_at(block)
            if received is None:  # damage: the next `read` knows more
                return self._last_received
            self._peeked = (place, received)
        return self._peeked[1]

    async def _forget(self, end: Position) -> None:
        """Note `end` and remove the segments before it."""
        async with self._tidying:
            if end > self._loaded:
                self._loaded = end
                await self._tidy(end)

    async def _tidy(self, end: Position) -> None:
        gone = [number for number in self._sizes if number < end.segment]

        def work() -> None:
            self._folder.note(end)
            for number in gone:
                self._folder.remove(number, is_damaged=number in self._damaged)

        try:
            await self._in_thread(work)
        except OSError as error:
            log.warning("spool not tidied; it is read again", error=str(error))
        for number in gone:
            del self._sizes[number]
        if self._trouble == _FULL and self.size < self._bounds.total_bytes:
            self._tell("")
        self._show()

    # --- telling

    def _tell(self, trouble: str) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble:
            log.error("spool refuses records", why=trouble, bytes=self.size)
        else:
            log.warning("spool takes records again", bytes=self.size)

    def _show(self) -> None:
        self._metrics.set("hubgate_usage_spool_bytes", self.size)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _settle(durable: asyncio.Future[None], error: OSError | None) -> None:
    if durable.done():
        return
    if error is None:
        durable.set_result(None)
    else:
        durable.set_exception(SpoolUnavailable(error.strerror or str(error)))
