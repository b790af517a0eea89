"""Reads frames, and holds the peer to the protocol and to its limits."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from runtime.http2 import frames
from runtime.http2.call import Call
from runtime.http2.frames import ConnectionFault, StreamFault
from runtime.http2.headers import HeaderReader
from runtime.http2.output import Output
from runtime.http2.running import Running
from runtime.http2.server import Server

DRAIN_PING: Final = b"hubgate\0"


@dataclass(slots=True)
class _Block:
    """A header block that CONTINUATION frames go on with."""

    stream_id: int
    flags: int
    data: bytes
    frames: int = 0


class Receiver:
    """What the peer of one connection sends, frame by frame."""

    def __init__(
        self,
        server: Server,
        out: Output,
        running: Running,
        on_drain_pong: Callable[[], None],
    ) -> None:
        self._limits = server.limits
        self._out = out
        self._running = running
        self._on_drain_pong = on_drain_pong
        self._reader = HeaderReader(server.methods, server.limits)
        self._awaits_preface = True
        self.awaits_settings = True
        self.last_id = 0
        #: After a drain: streams beyond it are not for us.
        self.final_id = frames.MAX_WINDOW
        self._block: _Block | None = None
        self._received = 0  # without credit for the connection
        self._noise = 0.0
        self._noise_since = 0.0
        self._handlers: tuple[Callable[[int, int, bytes], None], ...] = (
            self._on_data,
            self._on_headers,
            self._on_priority,
            self._on_rst_stream,
            self._on_settings,
            self._on_push_promise,
            self._on_ping,
            self._on_goaway,
            self._on_window_update,
            self._on_continuation,
        )

    @property
    def is_unfinished(self) -> bool:
        """Something must follow what has come."""
        return self._block is not None or self.awaits_settings

    def receive(self, data: bytes) -> int:
        """Take in all whole frames; how many bytes they were.

        Raises:
            ConnectionFault: the connection must end.
        """
        position, end = 0, len(data)
        if self._awaits_preface:
            if not data.startswith(frames.PREFACE):
                if frames.PREFACE.startswith(data):
                    return 0
                raise ConnectionFault(frames.PROTOCOL_ERROR, "not HTTP/2")
            self._awaits_preface = False
            position = len(frames.PREFACE)
        while end - position >= frames.HEAD_SIZE:
            high, low, kind, flags, stream_id = frames.unpack_head(data, position)
            size = high << 8 | low
            if size > frames.MAX_FRAME:
                raise ConnectionFault(frames.FRAME_SIZE_ERROR, "frame too large")
            start = position + frames.HEAD_SIZE
            if end - start < size:
                break
            position = start + size
            if self._block is not None or self.awaits_settings:
                self._expect(kind, flags)
            self._dispatch(
                kind, flags, stream_id & frames.MAX_WINDOW, data[start:position]
            )
        return position

    def _expect(self, kind: int, flags: int) -> None:
        if self._block is not None and kind != frames.CONTINUATION:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a header block is not over")
        if self.awaits_settings:
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "SETTINGS must come first")
            self.awaits_settings = False

    def _dispatch(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        try:
            if kind < len(self._handlers):
                self._handlers[kind](flags, stream_id, payload)
            else:
                self._disturb()  # extensions are ignored (section 5.5)
        except StreamFault as fault:
            self._disturb()
            call = self._running.get(stream_id)
            if call is None:
                self._out.write(frames.rst_stream(stream_id, fault.code))
            else:
                self._running.reset(call, fault.code)

    def _disturb(self, weight: int = 1) -> None:
        """Count what no call needs.

        Raises:
            ConnectionFault: there was too much of it.
        """
        self._noise += weight
        if self._noise <= self._limits.noise:
            return
        now = time.perf_counter()
        forgotten = (now - self._noise_since) * self._limits.noise_per_s
        self._noise = max(0.0, self._noise - forgotten)
        self._noise_since = now
        if self._noise > self._limits.noise:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "flood")

    def _known(self, stream_id: int) -> Call | None:
        """A stream's call; None when it is over.

        Raises:
            ConnectionFault: it was never opened (section 5.1, idle).
        """
        if not 0 < stream_id <= self.last_id or not stream_id & 1:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "no such stream")
        return self._running.get(stream_id)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._received += size
        if self._received >= self._limits.connection_window // 2:
            self._out.write(frames.window_update(0, self._received))
            self._received = 0
        call = self._known(stream_id)
        if call is None:
            self._disturb()
            return
        if flags & frames.PADDED:
            payload = frames.content(flags & frames.PADDED, payload)
        if not flags & frames.END_STREAM:
            if not payload:
                self._disturb()
            self._running.feed(call, payload, size)
        elif not self._running.feed_all(call, payload):
            self._running.feed(call, payload, size)
            self._running.end(call)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & (frames.PADDED | frames.PRIORITISED):
            payload = frames.content(flags, payload)
        if flags & frames.END_HEADERS:
            self._on_block(flags, stream_id, payload)
        else:
            self._block = _Block(stream_id, flags, payload)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._block
        if block is None or block.stream_id != stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "nothing to go on with")
        block.frames += 1
        block.data += payload
        is_large = len(block.data) > self._limits.header_block
        if is_large or block.frames > self._limits.continuations:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "headers too large")
        if flags & frames.END_HEADERS:
            self._block = None
            self._on_block(block.flags, stream_id, block.data)

    def _on_block(self, flags: int, stream_id: int, block: bytes) -> None:
        # Always decoded: the table of what follows depends on it.
        head = self._reader.read(block)
        is_last = bool(flags & frames.END_STREAM)
        if stream_id <= self.last_id:
            self._on_trailers(self._known(stream_id), is_last=is_last)
            return
        if not stream_id & 1:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "an even stream")
        self.last_id = stream_id
        if stream_id > self.final_id:
            raise StreamFault(frames.REFUSED_STREAM)
        if head.refusal is not None or len(self._running) >= self._limits.streams:
            self._disturb()
        self._running.open(stream_id, head, is_last=is_last)

    def _on_trailers(self, call: Call | None, *, is_last: bool) -> None:
        if call is None:
            self._disturb()
        elif call.is_half_closed:
            raise StreamFault(frames.STREAM_CLOSED)
        elif not is_last:
            raise StreamFault(frames.PROTOCOL_ERROR)
        else:
            self._running.end(call)

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id == 0:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "PRIORITY of no stream")
        if len(payload) != 5:  # noqa: PLR2004 - section 6.3
            raise StreamFault(frames.FRAME_SIZE_ERROR)
        self._disturb()

    def _on_rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        frames.read_number(payload)
        self._disturb()
        call = self._known(stream_id)
        if call is not None:
            self._running.reset(call, None)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFault(frames.FRAME_SIZE_ERROR, "bad SETTINGS ACK")
            self._disturb()
            return
        woken = self._out.settings(frames.read_settings(payload))
        self._out.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._disturb(1 + woken)

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ConnectionFault(frames.PROTOCOL_ERROR, "a client can't push")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:  # noqa: PLR2004 - section 6.7
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "bad PING size")
        self._disturb()
        if not flags & frames.ACK:
            self._out.write(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif payload == DRAIN_PING:
            self._on_drain_pong()

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "GOAWAY of a stream")
        self._disturb()  # we open no streams; the peer closes when it has its answers

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        increment = frames.read_number(payload) & frames.MAX_WINDOW
        self._disturb()
        if stream_id == 0:
            self._out.widen(increment)
        elif (call := self._known(stream_id)) is not None:
            self._out.widen_call(call, increment)
