"""An admitted request that no record will come for becomes a row `unsettled`.

When an Envoy is killed, its requests that had not ended, and those of its last
moments, are known from authz's journal alone. A request of a life that is over gets
its row after a grace time, when nothing that could still bring the record is left:
the file log is reconciled and the spool loaded beyond the end of that life.
"""

import asyncio
import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from runtime.clock import Clock
from runtime.contracts.access_log import JOURNAL_SUFFIX
from runtime.logs import get_logger
from runtime.metrics import Metrics
from usage_sink.journal import Admission, Admissions, payload_of
from usage_sink.lives import Lives
from usage_sink.presence import Presence
from usage_sink.recent import RecentIds
from usage_sink.reconcile import Spool, is_loaded
from usage_sink.segments import Kind

log = get_logger(__name__)

#: After a segment's last line: what ended by then has been sent.
QUIET_S: Final = 2.0
#: How often requests that have not ended are looked up, beside RecentIds.
_LOOK_AGAIN_S: Final = 30.0
_LINES_AT_ONCE: Final = 500
_SEGMENTS_AT_ONCE: Final = 4
_BLOCK_BYTES: Final = 512 * 1024
_OPEN: Final = "open.lines"

#: Requests admitted, by node and by the Unix time of their minute.
Minutes = Counter[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Grace:
    """After which time a request counts as unsettled, by the state of its Envoy."""

    over_s: float = 30.0
    live_s: float = 86_400.0


@dataclass(frozen=True, slots=True)
class _Segment:
    path: Path
    began: float
    written: float


@dataclass(slots=True)
class Settlement:
    """`step` takes closed segments in and settles what is due.

    A segment is removed when each of its requests has a row; those that have none yet
    go to a file of their own first.
    """

    folder: Path
    presence: Presence
    recent: RecentIds
    spool: Spool
    clock: Clock
    metrics: Metrics
    lives: Lives
    grace: Grace = field(default_factory=Grace)
    #: Admitted since it was last emptied.
    minutes: Minutes = field(default_factory=Counter)
    _open: dict[int, Admission] = field(default_factory=dict)
    _waiting: list[_Segment] = field(default_factory=list)
    _looked_at: float = 0.0
    _sent_at: float | None = None

    def load(self) -> None:
        """Take up what was open at the last stop."""
        with suppress(FileNotFoundError):
            found = Admissions((self.folder / _OPEN).read_bytes())
            self._open = {id_: found.at(at) for at, id_ in enumerate(found.ids)}
            self._observe(found)

    @property
    def open(self) -> int:
        """Admitted requests that have no row yet, as far as read."""
        return len(self._open)

    def is_settled(self, until: float) -> bool:
        """No request of a life that was over then can be without its row."""
        return (
            all(segment.began > until for segment in self._waiting)
            and not self._over()
            and (self._sent_at is None or is_loaded(self.spool, self._sent_at))
        )

    def missing(self, after_s: float) -> int:
        """Requests of lives that are over, so long after the grace time."""
        limit = self.clock.now() - self.grace.over_s - after_s
        late = {life for life, over in self._over().items() if over < limit}
        return sum((one.node, one.incarnation) in late for one in self._open.values())

    @property
    def segments(self) -> int:
        """Segments of the journal that are not taken in yet."""
        return len(self._waiting)

    def certain_through(self) -> float:
        """No request that began before is without a row; Unix seconds."""
        begun = [segment.began for segment in self._waiting]
        begun += [float(one.start) for one in self._open.values()]
        return min(begun, default=self.clock.now())

    async def step(
        self, is_evident: Callable[[float], bool], quiet_s: float = QUIET_S
    ) -> None:
        """One round. `is_evident(t)`: nothing but us can bring what ended before t.

        A segment is taken in when nobody has written to it for `quiet_s`.

        Raises:
            LedgerUnavailable: the ledger or the spool; the next round goes on.
            OSError: the folder can't be read or written.
        """
        self._waiting = await asyncio.to_thread(_segments, self.folder)
        for segment in await asyncio.to_thread(_closed, self._waiting):
            limit = self.clock.now() - quiet_s
            if segment.written <= limit and is_loaded(self.spool, segment.written):
                await self._take(segment)
        await self._settle(is_evident)

    async def _take(self, segment: _Segment) -> None:
        file = await asyncio.to_thread(segment.path.open, "rb")
        with file:
            while found := await asyncio.to_thread(_next, file):
                await self._admit(found)
        # When one of these fails the segment is read again, and nothing is new in it.
        await self._keep()
        await asyncio.to_thread(segment.path.unlink)
        self._waiting.remove(segment)

    async def _admit(self, found: Admissions) -> None:
        if found.torn:
            self.metrics.inc("hubgate_usage_torn_lines_total", found.torn)
        self._observe(found)
        # Envoy asks again when a try timed out: the same request, admitted once.
        counted = self.recent.counted(found.ids)
        new = {
            id_: at
            for at, id_ in enumerate(found.ids)
            if id_ not in counted and id_ not in self._open
        }
        unknown = [found.at(at) for id_, at in new.items() if id_ not in self.recent]
        absent = await self._absent(unknown)
        self._open.update({one.id: one for one in unknown if one.id in absent})
        self.recent.count([id_ for id_ in new if id_ not in absent])
        self.minutes.update(found.minutes(new.values()))

    async def _settle(self, is_evident: Callable[[float], bool]) -> None:
        before = len(self._open)
        self._close([id_ for id_ in self._open if id_ in self.recent])
        now = self.clock.now()
        if self._open and now - self._looked_at >= _LOOK_AGAIN_S:
            absent = await self._absent(list(self._open.values()))
            self._close([id_ for id_ in self._open if id_ not in absent])
            self._looked_at = now
        due = self._due(now, is_evident)
        if due:
            absent = await self._absent(due)
            await self._send([one for one in due if one.id in absent])
            for one in due:
                del self._open[one.id]
        if len(self._open) != before:
            await self._keep()

    def _close(self, ids: Sequence[int]) -> None:
        """They have their rows, and were counted when they were opened."""
        for id_ in ids:
            del self._open[id_]
        self.recent.count(ids)

    def _due(self, now: float, is_evident: Callable[[float], bool]) -> list[Admission]:
        over = {
            life
            for life, since in self._over().items()
            if since < now - self.grace.over_s and is_evident(since)
        }
        limit = now - self.grace.live_s
        return [
            one
            for one in self._open.values()
            if (one.node, one.incarnation) in over or float(one.start) < limit
        ]

    async def _send(self, due: Sequence[Admission]) -> None:
        for first in range(0, len(due), _LINES_AT_ONCE):
            some = due[first : first + _LINES_AT_ONCE]
            await self.spool.append(Kind.UNSETTLED, payload_of(some))
            self.metrics.inc("hubgate_usage_unsettled_total", len(some))
        if due:
            self._sent_at = self.clock.now()
            log.warning("requests ended with their Envoy", rows=len(due))

    async def _absent(self, some: Sequence[Admission]) -> set[int]:
        if not some:
            return set()
        return await self.presence.absent([(one.id, one.start) for one in some])

    async def _keep(self) -> None:
        content = b"".join(one.line + b"\n" for one in self._open.values())
        await asyncio.to_thread(_replace, self.folder / _OPEN, content)

    def _observe(self, found: Admissions) -> None:
        now = self.clock.now()
        for node, incarnation in found.lives():
            self.lives.observe(node, incarnation, now)

    def _over(self) -> dict[tuple[str, str], float]:
        """Lives that are over and have open requests, and since when."""
        lives = {(one.node, one.incarnation) for one in self._open.values()}
        since = {life: self.lives.over_since(*life) for life in lives}
        return {life: at for life, at in since.items() if at is not None}


def _segments(folder: Path) -> list[_Segment]:
    """Oldest first; those that are still written to, too."""
    found = []
    for path in sorted(folder.glob(f"[0-9]*{JOURNAL_SUFFIX}")):
        began, _, _ = path.name.partition("-")
        if began.isdigit():
            written = path.stat().st_mtime
            found.append(_Segment(path, int(began) / 1000, written))
    return found


def _closed(segments: Iterable[_Segment]) -> list[_Segment]:
    """The oldest that nobody writes to any more."""
    found: list[_Segment] = []
    for segment in segments:
        if len(found) < _SEGMENTS_AT_ONCE and not _is_locked(segment.path):
            found.append(segment)
    return found


def _is_locked(path: Path) -> bool:
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _next(file: BinaryIO) -> Admissions | None:
    """Some of a segment, which may have a hundred thousand; None: no more."""
    lines = file.read(_BLOCK_BYTES) + file.readline()
    return Admissions(lines) if lines else None


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f".{path.name}")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
