"""Which requests were let pass: a line each, so that none vanishes with its Envoy.

Envoy reports a request when it has ended; an Envoy that is killed reports nothing.
`usage_sink` compares these lines with the ledger. A line is handed to the kernel in
the loop turn of its answer, without fsync: it survives the end of this process, not
that of the machine. A journal that can't be written never holds a request up.

A segment belongs to its writer while it is locked; a reader that gets the lock may
take the segment away. Names sort by age.
"""

import asyncio
import errno
import fcntl
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from authz.lines import known, quoted_or_null, template
from runtime.clock import Clock
from runtime.contracts.access_log import ADMISSION_FIELDS, JOURNAL_SUFFIX
from runtime.logs import get_logger
from runtime.metrics import Metrics
from runtime.values import value

log = get_logger(__name__)

_LINE: Final = template(ADMISSION_FIELDS, {})


@value
class Admission:
    """A request that was let pass: ADMISSION_FIELDS, in their order."""

    id: str | None = None
    start: str | None = None
    node: str | None = None
    incarnation: str | None = None
    route: str | None = None
    service: str | None = None
    method: str | None = None
    path: str | None = None
    user_id: str | None = None
    role: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """When a segment is closed, and how much all of a folder's may hold together."""

    segment_s: float = 10.0
    segment_bytes: int = 4 * 1024 * 1024
    capacity_bytes: int = 512 * 1024 * 1024


def start_of(time: Any) -> str:
    """A protobuf Timestamp as the access log writes a request's start."""
    return f"{time.seconds}.{time.nanos // 1000:06d}"


class Journal:
    """`record` costs a few microseconds and never raises."""

    def __init__(
        self, folder: Path, clock: Clock, metrics: Metrics, limits: Limits | None = None
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._metrics = metrics
        self._limits = limits or Limits()
        self._lines: list[str] = []
        self._segment: int | None = None
        self._bytes = 0
        self._closing: asyncio.TimerHandle | None = None
        self._again_at = 0.0
        self._is_failing = False

    def record(self, one: Admission) -> None:
        """Keep what is said of one request."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(
            _LINE
            % (
                *(quoted_or_null(one.id), quoted_or_null(one.start)),
                *(known(one.node), known(one.incarnation), known(one.route)),
                *(known(one.service), quoted_or_null(one.method)),
                *(quoted_or_null(one.path), quoted_or_null(one.user_id)),
                *(known(one.role), known(one.reason)),
            )
        )

    def flush(self) -> None:
        """Write what this loop turn brought."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            self._append(("\n".join(lines) + "\n").encode())
        except OSError as error:
            self._fail(error)
            result = "lost"
        else:
            self._recover()
            result = "written"
        self._metrics.inc(
            "hubgate_authz_journal_lines_total", len(lines), result=result
        )

    def close(self) -> None:
        """Write the rest and let go of the segment."""
        self.flush()
        self._close_segment()

    def _append(self, data: bytes) -> None:
        if self._segment is None:
            self._segment = self._open()
        if os.write(self._segment, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._bytes += len(data)
        if self._bytes >= self._limits.segment_bytes:
            self._close_segment()

    def _open(self) -> int:
        if self._clock.monotonic() < self._again_at:
            raise OSError(errno.EAGAIN, "not tried again yet")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_room()
        milliseconds = int(self._clock.now() * 1000)
        name = f"{milliseconds:013d}-{secrets.token_hex(4)}{JOURNAL_SUFFIX}"
        # Locked before it has a name that a reader looks for.
        hidden = self._folder / f".{name}"
        segment = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
            hidden.rename(self._folder / name)
        except OSError:
            os.close(segment)
            raise
        self._bytes = 0
        self._closing = asyncio.get_running_loop().call_later(
            self._limits.segment_s, self._close_segment
        )
        return segment

    def _check_room(self) -> None:
        used = 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                # A reader may take one away meanwhile.
                with suppress(FileNotFoundError):
                    used += entry.stat().st_size
        if used >= self._limits.capacity_bytes:
            raise OSError(errno.EDQUOT, "the journal's folder is full")

    def _close_segment(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if self._segment is not None:
            os.close(self._segment)
            self._segment = None

    def _fail(self, error: OSError) -> None:
        if error.errno != errno.EAGAIN:
            # What was cut off in the middle of a line stays at a segment's end.
            self._close_segment()
            self._again_at = self._clock.monotonic() + self._limits.segment_s
        if not self._is_failing:
            log.error("requests pass without a journal", why=str(error))
        self._is_failing = True

    def _recover(self) -> None:
        if self._is_failing:
            log.warning("the journal is written again")
        self._is_failing = False
