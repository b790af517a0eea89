"""The writing side of a spool: the segment in use, begun, ended, given up."""

import os
from contextlib import suppress

from usage_sink.segments import end_record
from usage_sink.spool_folder import Shelf, write_all


class Writer:
    """One caller at a time."""

    def __init__(self, shelf: Shelf, segment_bytes: int) -> None:
        self._shelf = shelf
        self._segment_bytes = segment_bytes
        self._file = -1
        self._next_number = max(shelf.folder.first_free(), shelf.position.segment)

    async def write(self, data: bytes) -> None:
        """Return when `data` is durable.

        Raises:
            OSError: the disk's; call `poison` then.
        """
        number = await self._segment_for(len(data))
        await self._shelf.in_thread(lambda: write_all(self._file, data))
        self._shelf.sizes[number] += len(data)

    async def end(self) -> None:
        """Close the segment in use, if there is one.

        Raises:
            OSError: it is closed, but does not say so.
        """
        if self._shelf.active is None:
            return
        file, self._shelf.active = self._file, None

        def work() -> None:
            try:
                write_all(file, end_record())
            finally:
                os.close(file)

        await self._shelf.in_thread(work)

    async def poison(self) -> None:
        """Write nothing more to the segment in use: a write to it has failed."""
        number, self._shelf.active = self._shelf.active, None
        if number is None:
            return
        file, size = self._file, self._shelf.sizes[number]

        def work() -> None:
            with suppress(OSError):
                os.ftruncate(file, size)
            os.close(file)
            if not size:
                self._shelf.folder.remove(number)

        await self._shelf.in_thread(work)
        if not size:
            del self._shelf.sizes[number]

    async def _segment_for(self, size: int) -> int:
        """The segment in use, or a new one when that has no room for `size`."""
        shelf = self._shelf
        if shelf.active is not None:
            used = shelf.sizes[shelf.active]
            if not used or used + size <= self._segment_bytes:
                return shelf.active
            await self.end()
        number = self._next_number
        self._file = await shelf.in_thread(lambda: shelf.folder.create(number))
        self._next_number += 1
        shelf.active = number
        shelf.sizes[number] = 0
        shelf.own.add(number)
        return number
