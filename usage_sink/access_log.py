"""Follows Envoy's log file through rotations and restarts. Every method blocks.

The file is rotated by renaming it; Envoy goes on writing to it until it is told to
open its log again. A file is told from another by its inode and its first bytes:
inodes are used again.
"""

import json
import os
import zlib
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BLOCK_BYTES: Final = 1024 * 1024
#: A line is at most some 100 KB: what is longer is no line.
_HEAD_BYTES: Final = 1024
#: Envoy may still write what it holds into the file that it leaves.
_LEFT_AFTER_S: Final = 2.0
_STAMP_DIGITS: Final = 13


@dataclass(slots=True)
class LogFile:
    """One open file; `read` bytes of it have been given out."""

    path: Path
    file: int
    inode: int
    read: int = 0
    is_rotated: bool = False
    #: When it was seen that Envoy writes to another file.
    left_at: float | None = None

    def size(self) -> int:
        return os.fstat(self.file).st_size


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a file, from `offset` on."""

    source: LogFile
    offset: int
    data: bytes


class AccessLog:
    """The files from the oldest that is not done with to the one that grows."""

    def __init__(self, path: Path, position: Path) -> None:
        self._path = path
        self._position = position
        self._files: deque[LogFile] = deque()
        self._current = 0
        self._noted = ""

    def open(self) -> None:
        """Take up where the position says; what it does not know is read again."""
        known = self._read_position()
        found = sorted(self._path.parent.glob(f"{self._path.name}.*"))
        for path in found:
            if path == self._position:
                continue
            log = _open(path)
            if log is None:
                continue
            done = _done(log, known)
            if done is None and not _is_ours(path, self._path):
                os.close(log.file)
                continue
            log.read, log.is_rotated, log.left_at = done or 0, True, 0.0
            self._files.append(log)
        self._look()
        for log in self._files:
            log.read = _done(log, known) or 0

    def close(self) -> None:
        for log in self._files:
            os.close(log.file)
        self._files.clear()

    def next(self, now: float) -> Block | None:
        """The next lines; None: all are read that there are. `now` is monotonic."""
        self._look()
        while self._current < len(self._files):
            log = self._files[self._current]
            block = _next_block(log)
            if block is not None:
                return block
            if not self._is_left(log, now):
                return None
            self._current += 1
        return None

    def line(self, log: LogFile, offset: int, length: int) -> bytes:
        return os.pread(log.file, length, offset)

    def note(self, pending: dict[int, int]) -> None:
        """Keep how far all is done: `pending` is the first open offset by inode.

        A rotated file of which nothing is open any more is removed.
        """
        while self._current > 0 and self._files[0].inode not in pending:
            self._drop_first()
        known = {}
        for log in self._files:
            done = min(pending.get(log.inode, log.read), log.read)
            if done:
                known[str(log.inode)] = [done, *_head(log, min(done, _HEAD_BYTES))]
        text = json.dumps(known)
        if text == self._noted:
            return
        fresh = self._position.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(self._position)
        self._noted = text

    def rotate(self, at_bytes: int, now: float) -> None:
        """Rename the file when it has so many bytes; `now` is Unix time."""
        if self.wants_reopening() or not self._files or self._files[-1].is_rotated:
            return
        log = self._files[-1]
        if log.size() < at_bytes:
            return
        stamp = f"{int(now * 1000):0{_STAMP_DIGITS}d}"
        log.path = self._path.rename(self._path.with_name(f"{self._path.name}.{stamp}"))
        log.is_rotated = True

    def wants_reopening(self) -> bool:
        """The file was renamed, and Envoy has not made a new one."""
        return (
            bool(self._files) and self._files[-1].is_rotated and not self._path.exists()
        )

    def _look(self) -> None:
        """Notice a new file under the name."""
        log = _open(self._path)
        if log is None:
            return
        if any(one.inode == log.inode for one in self._files):
            os.close(log.file)
        else:
            self._files.append(log)

    def _is_left(self, log: LogFile, now: float) -> bool:
        if log is self._files[-1]:
            return False
        if log.left_at is None:
            log.left_at = now
        return now - log.left_at >= _LEFT_AFTER_S

    def _drop_first(self) -> None:
        log = self._files.popleft()
        self._current -= 1
        os.close(log.file)
        if _is_ours(log.path, self._path):
            log.path.unlink(missing_ok=True)

    def _read_position(self) -> dict[str, list[int]]:
        with suppress(OSError, ValueError):
            known = json.loads(self._position.read_text())
            if isinstance(known, dict):
                return known
        return {}


def _open(path: Path) -> LogFile | None:
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    return LogFile(path, file, os.fstat(file).st_ino)


def _next_block(log: LogFile) -> Block | None:
    size = log.size()
    if size < log.read:  # truncated: it begins anew
        log.read = 0
    data = os.pread(log.file, _BLOCK_BYTES, log.read)
    end = data.rfind(b"\n") + 1
    if not end and len(data) == _BLOCK_BYTES:
        end = len(data)
    if not end:
        return None
    block = Block(log, log.read, data[:end])
    log.read += end
    return block


def _is_ours(path: Path, live: Path) -> bool:
    stamp = path.name.removeprefix(f"{live.name}.")
    return len(stamp) == _STAMP_DIGITS and stamp.isdigit()


def _head(log: LogFile, length: int) -> tuple[int, int]:
    return length, zlib.crc32(os.pread(log.file, length, 0))


def _done(log: LogFile, known: dict[str, list[int]]) -> int | None:
    try:
        done, length, check = known[str(log.inode)]
    except (KeyError, ValueError, TypeError):
        return None
    is_same = log.size() >= done and _head(log, length) == (length, check)
    return done if is_same else None
