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
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.clock import Clock
from runtime.logs import get_logger
from runtime.metrics import Metrics
from usage_sink.errors import SpoolFull, SpoolUnavailable
from usage_sink.segments import HEADER_BYTES, Entry, Kind, Position, header
from usage_sink.spool_folder import Shelf, SpoolFolder
from usage_sink.spool_reader import Chunk, Reader
from usage_sink.spool_writer import Writer

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


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of the whole spool, and of one segment."""

    total_bytes: int = 2 * 1024**3
    segment_bytes: int = SEGMENT_BYTES


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
        self._shelf = Shelf(SpoolFolder(folder))
        self._reader = Reader(self._shelf, metrics)
        self._writer = Writer(self._shelf, bounds.segment_bytes)
        self._bounds = bounds
        self._clock = clock
        self._metrics = metrics
        self._waiting: deque[_Waiting] = deque()
        self._group: list[_Waiting] = []
        self._waiting_bytes = 0
        self._committing: asyncio.Task[None] | None = None
        self._paused_until = 0.0
        self._trouble = ""
        self._is_closed = False
        #: Set whenever there may be more to read.
        self.arrived = asyncio.Event()
        self._show()

    def __repr__(self) -> str:
        return f"<Spool {self.size} bytes in {len(self._shelf.sizes)} segments>"

    @property
    def identity(self) -> str:
        """A UUID, made with the folder."""
        return self._shelf.folder.identity

    @property
    def size(self) -> int:
        """On disk, also what is loaded and not yet removed."""
        return sum(self._shelf.sizes.values())

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
        received = self._reader.oldest()
        if received is not None:
            return received
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
        chunk = await self._reader.read(most_bytes)
        self._make_room()
        return chunk

    async def loaded(self, end: Position) -> None:
        """Everything before `end` is in the ledger, for good."""
        await self._reader.loaded(end)
        self._make_room()

    async def close(self) -> None:
        """Write what was taken in, and let the folder go."""
        self._is_closed = True
        if self._committing is not None:
            await self._committing
        with suppress(OSError):
            await self._writer.end()
        self._shelf.close()

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
            await self._writer.write(data)
        except OSError as failure:
            error = failure
            await self._writer.poison()
            self._paused_until = self._clock.monotonic() + _PAUSE_S
            self._tell(f"disk: {failure.strerror or failure}")
            self._metrics.inc(
                "hubgate_usage_spool_refused_total", len(group), reason="disk"
            )
        else:
            self._tell("")
        finally:
            self._waiting_bytes -= len(data)
        # After a failure too: the segment has ended, and may be done with.
        self.arrived.set()
        for one in group:
            _settle(one.durable, error)
        self._show()

    # --- telling

    def _make_room(self) -> None:
        """Segments may have been removed."""
        if self._trouble == _FULL and self.size < self._bounds.total_bytes:
            self._tell("")
        self._show()

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


def _settle(durable: asyncio.Future[None], error: OSError | None) -> None:
    if durable.done():
        return
    if error is None:
        durable.set_result(None)
    else:
        durable.set_exception(SpoolUnavailable(error.strerror or str(error)))
