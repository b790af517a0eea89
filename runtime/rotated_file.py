"""A file of lines that is renamed when it is large; one older is kept (`.1`).

Several processes may append to the same one: what is written at once stays together,
and who finds the file too large renames it, under its lock. The others go over to the
new one within a second, as they do when somebody else renames or removes the file.
"""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from runtime.clock import Clock

_LOOK_AGAIN_S: Final = 1.0
_MODE: Final = 0o640


class RotatedFile:
    """Opened by the first write."""

    def __init__(self, path: Path, most_bytes: int, clock: Clock) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._clock = clock
        self._file: int | None = None
        self._bytes = 0
        self._look_at = 0.0
        #: It ends in the middle of a line.
        self._is_torn = False

    def write(self, data: bytes) -> None:
        """Hand whole lines to the kernel, in one piece.

        Raises:
            OSError: they are not there, or not whole.
        """
        file = self._current()
        whole = b"\n" + data if self._is_torn else data
        written = os.write(file, whole)
        self._is_torn = written < len(whole)
        if self._is_torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._bytes += written
        if self._bytes > self._most_bytes:
            self._rotate(file)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _current(self) -> int:
        now = self._clock.monotonic()
        if self._file is None or now >= self._look_at:
            if self._file is not None and not self._has_its_name(self._file):
                self.close()
            if self._file is None:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
                self._file = os.open(self._path, flags, _MODE)
            # Others may have written, too.
            self._bytes = os.fstat(self._file).st_size
            self._look_at = now + _LOOK_AGAIN_S
        return self._file

    def _has_its_name(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False

    def _rotate(self, file: int) -> None:
        with suppress(BlockingIOError):  # who has the lock is doing it
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._has_its_name(file):
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        self.close()
