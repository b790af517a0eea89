"""A child's output, line by line, to its log file and to the console."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from pathlib import Path

from runtime.clock import SystemClock
from runtime.rotated_file import RotatedFile

_LONGEST_LINE = 64 * 1024
#: Of a process's log file; twice as much with the older one.
_FILE_BYTES = 20 * 1024 * 1024
_TAIL_LINES = 15


class Output:
    """Where the lines of one process go, over all its restarts."""

    def __init__(self, path: Path, show: Callable[..., None]) -> None:
        self._log = RotatedFile(path, _FILE_BYTES, SystemClock())
        self._show = show
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def line(self, *lines: bytes) -> None:
        """Lines that came together are written together."""
        texts = [raw.decode(errors="replace") for raw in lines]
        self.tail.extend(texts)
        with contextlib.suppress(OSError):  # a full disk must not stop the stack
            self._log.write(b"\n".join((*lines, b"")))
        self._show(*texts)

    def close(self) -> None:
        self._log.close()


class LineProtocol(asyncio.Protocol):
    """Splits a pipe into lines; a line without an end is cut, not collected."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._rest = b""
        self._transport: asyncio.BaseTransport | None = None
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    async def finish(self, timeout_s: float) -> None:
        """Take what is still in the pipe; a process that keeps it open is cut off."""
        await asyncio.wait({self.closed}, timeout=timeout_s)
        if self._transport is not None:
            self._transport.close()
            await self.closed

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines:
            self._output.line(*(line.removesuffix(b"\r") for line in lines))
        if len(self._rest) > _LONGEST_LINE:
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._flush()
        if not self.closed.done():
            self.closed.set_result(None)

    def _flush(self) -> None:
        if self._rest:
            self._output.line(self._rest)
            self._rest = b""
