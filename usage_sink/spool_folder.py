"""The files of a spool; every method blocks, and raises OSError as the disk does.

spool.lock       held by the one process that uses the folder
spool.id         a UUID: the name of this spool's hash chain
position         what is loaded; fixed size, written in place (a full disk is no
                 hindrance), two slots by turns (a torn write costs a replay)
00000001.spool   segments, numbered upwards, never written to again once closed
*.corrupt        segments with damage inside, kept as evidence
"""

import asyncio
import fcntl
import os
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

from usage_sink.errors import SpoolInUse
from usage_sink.segments import Position

_SUFFIX: Final = ".spool"
_ASIDE: Final = ".corrupt"
_SLOT_BYTES: Final = 512
#: generation, segment, offset
_SLOT: Final = struct.Struct("<QQQ")
_CHECK: Final = struct.Struct("<I")
_PRIVATE: Final = 0o600

_T = TypeVar("_T")


class SpoolFolder:
    """Open while locked; one process at a time."""

    def __init__(self, path: Path) -> None:
        """Take the folder; it is made when it is not there.

        Raises:
            SpoolInUse: another process has it.
        """
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._lock = os.open(path / "spool.lock", os.O_RDWR | os.O_CREAT, _PRIVATE)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise SpoolInUse(str(path)) from None
        self.identity = self._read_identity()
        self._generation = 0
        self._slots = os.open(path / "position", os.O_RDWR | os.O_CREAT, _PRIVATE)
        if os.fstat(self._slots).st_size < 2 * _SLOT_BYTES:
            os.pwrite(self._slots, bytes(2 * _SLOT_BYTES), 0)
            os.fsync(self._slots)
        self._sync()

    def close(self) -> None:
        os.close(self._slots)
        os.close(self._lock)

    def segments(self) -> dict[int, int]:
        """Number -> bytes of every segment, lowest first."""
        found = {
            int(file.stem): file.stat().st_size
            for file in self.path.glob(f"*{_SUFFIX}")
            if file.stem.isdigit()
        }
        return dict(sorted(found.items()))

    def first_free(self) -> int:
        """A number that no segment has, nor had one that was put aside."""
        names = (*self.path.glob(f"*{_SUFFIX}"), *self.path.glob(f"*{_ASIDE}"))
        taken = [int(file.stem) for file in names if file.stem.isdigit()]
        return max(taken, default=0) + 1

    def create(self, number: int) -> int:
        """A new segment's file descriptor, open for writing."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        file = os.open(self._file(number), flags, _PRIVATE)
        try:
            self._sync()
        except OSError:
            os.close(file)
            self._file(number).unlink(missing_ok=True)
            raise
        return file

    def read(self, place: Position, count: int) -> bytes:
        file = os.open(self._file(place.segment), os.O_RDONLY)
        try:
            return os.pread(file, count, place.offset)
        finally:
            os.close(file)

    def remove(self, number: int, *, is_damaged: bool = False) -> None:
        """Away with a segment, or aside when it has damage inside."""
        file = self._file(number)
        with suppress(FileNotFoundError):
            if is_damaged:
                file.rename(file.with_suffix(_ASIDE))
            else:
                file.unlink()

    def position(self) -> Position:
        """What was noted last; the beginning when nothing was, or not readably."""
        slots = []
        for at in (0, _SLOT_BYTES):
            slot = os.pread(self._slots, _SLOT.size + _CHECK.size, at)
            values, check = slot[: _SLOT.size], slot[_SLOT.size :]
            if check == _CHECK.pack(zlib.crc32(values)):
                slots.append(_SLOT.unpack(values))
        self._generation, *place = max(slots, default=(0, 0, 0))
        return Position(*place)

    def note(self, place: Position) -> None:
        """Not fsynced: after a loss of power some records are loaded again."""
        self._generation += 1
        values = _SLOT.pack(self._generation, *place)
        slot = values + _CHECK.pack(zlib.crc32(values))
        os.pwrite(self._slots, slot, self._generation % 2 * _SLOT_BYTES)

    def _file(self, number: int) -> Path:
        return self.path / f"{number:08d}{_SUFFIX}"

    def _read_identity(self) -> str:
        file = self.path / "spool.id"
        if not file.exists() or not file.read_text().strip():
            fresh = file.with_suffix(".new")
            with fresh.open("w") as new:
                new.write(f"{uuid4()}\n")
                new.flush()
                os.fsync(new.fileno())
            fresh.replace(file)
        return file.read_text().strip()

    def _sync(self) -> None:
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Shelf:
    """What both sides of a spool know of its segments; only the event loop writes."""

    def __init__(self, folder: SpoolFolder) -> None:
        self.folder = folder
        #: Bytes to read of each segment, lowest first: what is durable of it.
        self.sizes = folder.segments()
        #: Written by this process: every byte to read of them was acknowledged.
        self.own: set[int] = set()
        #: The one being written.
        self.active: int | None = None
        #: What was loaded when the folder was opened.
        self.position = folder.position()
        #: Writing and reading at the same time.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="spool")

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        self._threads.shutdown()
        self.folder.close()


def write_all(file: int, data: bytes) -> None:
    """Write `data` and wait until the disk has it."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    os.fdatasync(file)
