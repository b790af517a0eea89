"""What goes to one peer: as its windows allow, in one write for a turn of the loop."""

import asyncio
from contextlib import suppress
from struct import Struct
from typing import Final

from runtime.http2 import frames
from runtime.http2.call import Call
from runtime.http2.frames import ConnectionFault, StreamFault
from runtime.http2.headers import ANSWER_BLOCK, NO_TABLE, OK_TRAILERS, error_trailers
from runtime.http2.inbox import PREFIX
from runtime.http2.limits import Limits
from runtime.rpc import RpcStatus

# An answer is three frames that differ in the stream's number and the message.
_ANSWER_START: Final = frames.frame(
    frames.HEADERS, frames.END_HEADERS, 0, ANSWER_BLOCK
)[:5]
_ANSWER_END: Final = frames.frame(
    frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 0, OK_TRAILERS
)[:5]
_pack_start = Struct(f">5sL{len(ANSWER_BLOCK)}sHBBBLBL").pack
_pack_end = Struct(f">5sL{len(OK_TRAILERS)}s").pack
_pack_prefix = Struct(">BL").pack

_Waiting = dict[int, asyncio.Future[None]]


class Output:
    """Frames to send, and the windows of the connection and its calls."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._frames: list[bytes] = []
        self._is_scheduled = False
        self._window = frames.DEFAULT_WINDOW
        self._initial = frames.DEFAULT_WINDOW
        self._must_say_no_table = False
        # By stream: who waits for its own window, and in turn for the connection's.
        self._stalled: _Waiting = {}
        self._starved: _Waiting = {}
        self._writable = asyncio.Event()
        self._writable.set()

    def attach(self, transport: asyncio.Transport) -> None:
        transport.set_write_buffer_limits(high=self._limits.unsent)
        self._transport = transport

    def write(self, frame: bytes) -> None:
        """Send in this turn of the loop, when everybody has said what there is."""
        self._frames.append(frame)
        self.flush_soon()

    def flush_soon(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        self._is_scheduled = False
        if self._frames and self._transport is not None:
            self._transport.write(b"".join(self._frames))
        self._frames.clear()

    def close(self) -> None:
        """Nothing is sent after what there is."""
        self.flush()
        if self._transport is not None and not self._transport.is_closing():
            with suppress(OSError):  # the peer has gone before
                self._transport.write_eof()
        self._transport = None

    def pause(self) -> None:
        """The peer does not read: no stream goes on."""
        self._writable.clear()

    def resume(self) -> None:
        self._writable.set()

    def answer(self, call: Call, message: bytes) -> bool:
        """All of a unary call's answer, if it may go at once."""
        size = PREFIX + len(message)
        if (
            size > self._window
            or size > self._initial + call.credit
            or size > frames.MAX_FRAME
            or self._must_say_no_table
            or call.is_closed
        ):
            return False
        self._window -= size
        stream_id = call.id
        self._frames += (
            _pack_start(
                *(_ANSWER_START, stream_id, ANSWER_BLOCK),
                *(size >> 8, size & 0xFF, frames.DATA, 0, stream_id),
                *(0, size - PREFIX),
            ),
            message,
            _pack_end(_ANSWER_END, stream_id, OK_TRAILERS),
        )
        self._close(call)
        return True

    async def send(self, call: Call, message: bytes) -> None:
        """One message of an answer, however long the peer makes us wait."""
        if call.is_closed:
            return
        self._begin(call)
        rest = memoryview(_pack_prefix(0, len(message)) + message)
        while rest:
            room = await self._room(call)
            if not room:
                return
            part, rest = rest[:room], rest[room:]
            self._window -= len(part)
            call.credit -= len(part)
            self.write(frames.frame(frames.DATA, 0, call.id, bytes(part)))
        await self._writable.wait()

    def end(self, call: Call) -> None:
        """All has been said."""
        if not call.is_closed:
            self._begin(call)
            self._headers(call, OK_TRAILERS, frames.END_STREAM)
            self._close(call)

    def refuse(self, call: Call, status: RpcStatus, message: str) -> None:
        """End with an error, whatever has been sent before."""
        if call.is_closed:
            return
        trailers = error_trailers(status, message)
        self.end_with(call, trailers if call.has_begun else ANSWER_BLOCK + trailers)

    def end_with(self, call: Call, block: bytes) -> None:
        self._headers(call, block, frames.END_STREAM)
        self._close(call)

    def reset(self, call: Call, code: int) -> None:
        if not call.is_closed:
            self.write(frames.rst_stream(call.id, code))
            call.is_closed = True

    def settings(self, values: dict[int, int]) -> int:
        """Take the peer's settings; how many calls that wakes."""
        # Our blocks never refer to the peer's table, whatever its size is.
        self._must_say_no_table |= frames.HEADER_TABLE_SIZE in values
        self._initial = values.get(frames.INITIAL_WINDOW_SIZE, self._initial)
        woken = len(self._stalled)
        for waiter in self._stalled.values():
            _wake(waiter)
        return woken

    def widen(self, increment: int) -> None:
        """The connection's window.

        Raises:
            ConnectionFault: by nothing, or by too much.
        """
        if increment == 0:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        self._window += increment
        if self._window > frames.MAX_WINDOW:
            raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "window too large")
        self._wake_next()

    def widen_call(self, call: Call, increment: int) -> None:
        """A call's window.

        Raises:
            StreamFault: by nothing, or by too much.
        """
        if increment == 0:
            raise StreamFault(frames.PROTOCOL_ERROR)
        call.credit += increment
        if self._initial + call.credit > frames.MAX_WINDOW:
            raise StreamFault(frames.FLOW_CONTROL_ERROR)
        if (waiter := self._stalled.get(call.id)) is not None:
            _wake(waiter)

    def _begin(self, call: Call) -> None:
        if not call.has_begun:
            call.has_begun = True
            self._headers(call, ANSWER_BLOCK, 0)

    def _headers(self, call: Call, block: bytes, flags: int) -> None:
        if self._must_say_no_table:
            self._must_say_no_table = False
            block = NO_TABLE + block
        flags |= frames.END_HEADERS
        self.write(frames.frame(frames.HEADERS, flags, call.id, block))

    def _close(self, call: Call) -> None:
        call.is_closed = True
        if not call.is_half_closed:
            # The rest of the request is of no use (RFC 9113, section 8.1).
            self._frames.append(frames.rst_stream(call.id, frames.NO_ERROR))
        self.flush_soon()

    async def _room(self, call: Call) -> int:
        """How much may go in one frame; waits until it is some; 0 when it is over."""
        while not call.is_closed:
            own = self._initial + call.credit
            if own > 0 and self._window > 0:
                return min(own, self._window, frames.MAX_FRAME)
            await self._wait(call, self._starved if own > 0 else self._stalled)
        return 0

    async def _wait(self, call: Call, waiting: _Waiting) -> None:
        waiter = waiting[call.id] = self._loop.create_future()
        try:
            async with asyncio.timeout(self._limits.stall_s):
                await waiter
        except TimeoutError:
            self.reset(call, frames.CANCEL)
        finally:
            del waiting[call.id]
            # Whoever is woken and goes must not leave the others asleep.
            self._wake_next()

    def _wake_next(self) -> None:
        # One at a time: what an update of one byte wakes must not grow with the calls.
        if self._window > 0 and self._starved:
            _wake(next(iter(self._starved.values())))


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
