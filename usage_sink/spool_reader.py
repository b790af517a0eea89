"""The reading side of a spool: what comes next, what is loaded, what is damaged."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from runtime.logs import get_logger
from runtime.metrics import Metrics
from usage_sink.segments import (
    HEADER_BYTES,
    Entry,
    Position,
    Scan,
    is_end,
    received_at,
    scan,
)
from usage_sink.spool_folder import Shelf

log = get_logger(__name__)

_AT_ONCE_BYTES: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive entries; `end` is what `loaded` is told when they are."""

    entries: list[Entry]
    end: Position


class Reader:
    """Reads every segment once, lowest first, and removes what is loaded."""

    def __init__(self, shelf: Shelf, metrics: Metrics) -> None:
        self._shelf = shelf
        self._metrics = metrics
        self._loaded = self._cursor = shelf.position
        self._damaged: set[int] = set()
        #: Chunks that are read and not loaded: where each ends, when it was received.
        self._taken: deque[tuple[Position, float]] = deque()
        self._last_received = 0.0
        self._peeked: tuple[Position, float] | None = None
        self._tidying = asyncio.Lock()

    def oldest(self) -> float | None:
        """When the oldest durable entry that is not loaded was received."""
        if self._taken:
            return self._taken[0][1]
        while (place := self._next_place()) is not None:
            received = self._peek(place)
            if received is not None:
                return received
            self._cursor = Position(place.segment + 1, 0)
        return None

    async def read(self, most_bytes: int) -> Chunk | None:
        """The next entries; None: nothing to read now.

        Raises:
            OSError: the disk can't be read.
        """
        while (place := self._next_place()) is not None:
            found = await self._scan(place, most_bytes)
            self._advance(place, found)
            if found.entries:
                first, last = found.entries[0], found.entries[-1]
                # Not the cursor, which may already be behind the segment: `loaded` is
                # told where a record ends.
                self._taken.append((last.end, first.received))
                self._last_received = last.received
                return Chunk(found.entries, last.end)
        await self._forget_read()
        return None

    async def loaded(self, end: Position) -> None:
        while self._taken and self._taken[0][0] <= end:
            self._taken.popleft()
        await self._forget(end)
        await self._forget_read()

    async def _forget_read(self) -> None:
        """When all that was read is loaded: what is over is over.

        A segment may have ended after its last record was read: by a full disk, which
        its removal will empty.
        """
        if self._taken:
            return
        number = self._cursor.segment
        if number in self._shelf.sizes and self._is_over(number, self._cursor.offset):
            self._cursor = Position(number + 1, 0)
        await self._forget(self._cursor)

    def _next_place(self) -> Position | None:
        """Where the next record is, without I/O."""
        for number, size in self._shelf.sizes.items():
            if number < self._cursor.segment:
                continue
            offset = self._cursor.offset if number == self._cursor.segment else 0
            if offset < size:
                return Position(number, offset)
        return None

    async def _scan(self, place: Position, most_bytes: int) -> Scan:
        left = self._shelf.sizes[place.segment] - place.offset
        found = await self._scan_bytes(place, min(most_bytes, left))
        if not found.entries and found.size < found.wanted <= left:
            found = await self._scan_bytes(place, found.wanted)
        if not found.entries and found.is_stuck and found.size < left:
            found = await self._scan_bytes(place, left)
        return found

    async def _scan_bytes(self, place: Position, count: int) -> Scan:
        def work() -> Scan:
            return scan(self._shelf.folder.read(place, count), place)

        if place.segment == self._shelf.active and count <= _AT_ONCE_BYTES:
            # Written a moment ago, and in memory: a thread takes longer than it does.
            return work()
        return await self._shelf.in_thread(work)

    def _advance(self, place: Position, found: Scan) -> None:
        number, offset = place.segment, place.offset + found.consumed
        if found.damaged:
            self._damage(number, found.damaged)
        is_at_limit = place.offset + found.size >= self._shelf.sizes[number]
        is_lost = not found.entries and (found.is_stuck or found.wanted) and is_at_limit
        if is_lost and number in self._shelf.own:
            # Of our own segments every byte to read was acknowledged, and ends a
            # record; what has come since begins there.
            self._damage(number, found.size - found.consumed)
            self._cursor = Position(number, place.offset + found.size)
        elif is_lost or found.has_end or self._is_over(number, offset):
            self._cursor = Position(number + 1, 0)
        else:
            self._cursor = Position(number, offset)

    def _is_over(self, number: int, offset: int) -> bool:
        is_active = self._shelf.active == number
        return offset >= self._shelf.sizes[number] and not is_active

    def _damage(self, number: int, size: int) -> None:
        log.error("spool segment is damaged", segment=number, unreadable_bytes=size)
        self._metrics.inc("hubgate_usage_spool_damaged_total")
        self._damaged.add(number)

    def _peek(self, place: Position) -> float | None:
        """When the record at `place` was received; None: its segment ends there."""
        if self._peeked is None or self._peeked[0] != place:
            try:
                block = self._shelf.folder.read(place, HEADER_BYTES)
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
        gone = [number for number in self._shelf.sizes if number < end.segment]

        def work() -> None:
            self._shelf.folder.note(end)
            for number in gone:
                self._shelf.folder.remove(number, is_damaged=number in self._damaged)

        try:
            await self._shelf.in_thread(work)
        except OSError as error:
            log.warning("spool not tidied; it is read again", error=str(error))
        for number in gone:
            del self._shelf.sizes[number]
