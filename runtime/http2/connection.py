"""One connection, from accept to its end."""

import asyncio
import socket
from typing import cast

from runtime.http2 import frames
from runtime.http2.frames import ConnectionFault
from runtime.http2.limits import Limits
from runtime.http2.output import Output
from runtime.http2.receiver import DRAIN_PING, Receiver
from runtime.http2.running import Running
from runtime.http2.server import Server
from runtime.logs import get_logger
from runtime.rpc import RpcError, RpcStatus

log = get_logger(__name__)


class Connection(asyncio.Protocol):
    """RFC 9113 as a server; cleartext with prior knowledge."""

    def __init__(self, server: Server, others: "set[Connection]") -> None:
        self._server = server
        self._others = others
        self._limits = server.limits
        self._loop = asyncio.get_running_loop()
        self._out = Output(server.limits)
        self._running = Running(server, self._out, self._on_empty)
        self._receiver = Receiver(server, self._out, self._running, self._drain_on)
        self._transport: asyncio.Transport | None = None
        #: Nothing more will be said; the peer has closed it.
        self.ended = asyncio.Event()
        self.gone = asyncio.Event()
        self._rest = b""
        self._is_draining = False
        self._is_drained = False
        self._is_ending = False
        # Since when it makes us wait: for its preface or a frame's end; to be read.
        self._unfinished_since: float | None = self._loop.time()
        self._unread_since: float | None = None
        self._ending_since: float | None = None
        self._used_at = self._loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one in all but name.
        transport = cast(asyncio.Transport, transport)
        if len(self._others) >= self._limits.connections:
            self._server.metrics.inc("hubgate_grpc_faults_total", kind="connections")
            self._is_ending = True
            transport.abort()
            return
        self._others.add(self)
        self._transport = transport
        self._out.attach(transport)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family != socket.AF_UNIX:
            _probe(peer, self._limits)
        limits = self._limits
        ours = {
            frames.MAX_CONCURRENT_STREAMS: limits.streams,
            frames.INITIAL_WINDOW_SIZE: limits.stream_window,
            frames.MAX_HEADER_LIST_SIZE: limits.header_list,
        }
        self._out.write(frames.settings_frame(ours))
        more = limits.connection_window - frames.DEFAULT_WINDOW
        self._out.write(frames.window_update(0, more))

    def data_received(self, data: bytes) -> None:
        if self._is_ending:
            return
        if self._rest:
            data = self._rest + data
        receiver = self._receiver
        try:
            position = receiver.receive(data)
        except ConnectionFault as fault:
            self._fail(fault)
            return
        self._rest = data[position:]
        if not self._rest and not receiver.is_unfinished:
            self._unfinished_since = None
        elif self._unfinished_since is None or (
            position and not receiver.awaits_settings
        ):
            self._unfinished_since = self._loop.time()
        # After the handlers' first steps, which were scheduled before.
        self._out.flush_soon()

    def pause_writing(self) -> None:
        # Whoever does not read is not read either, or its PINGs would fill our memory.
        self._unread_since = self._loop.time()
        self._out.pause()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._unread_since = None
        self._out.resume()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_ending = True
        self._transport = None
        self._others.discard(self)
        self.ended.set()
        self.gone.set()
        self._running.abandon()

    @property
    def handlers(self) -> list["asyncio.Future[None]"]:
        """Each done when a handler that still runs has ended."""
        return self._running.handlers

    def check(self, now: float) -> None:
        """End it when it makes us wait too long; let it go when it is idle."""
        limits = self._limits
        is_new = self._receiver.awaits_settings
        patience = limits.handshake_s if is_new else limits.stall_s
        if _is_over(self._ending_since, limits.linger_s, now):
            self.abort()
        elif _is_over(self._unfinished_since, patience, now) or _is_over(
            self._unread_since, limits.stall_s, now
        ):
            self._server.metrics.inc("hubgate_grpc_faults_total", kind="stalled")
            self.abort()
        elif self._running:
            self._used_at = now
        elif now - self._used_at > limits.idle_s:
            self.drain()

    def drain(self) -> None:
        """Ask for no new calls; go when the running ones have ended (section 6.8)."""
        if self._is_draining or self._is_ending:
            return
        self._is_draining = True
        if self._receiver.awaits_settings:
            self._end()
            return
        # What is on its way is still answered: it comes before the PING's answer.
        self._out.write(frames.goaway(frames.MAX_WINDOW, frames.NO_ERROR))
        self._out.write(frames.frame(frames.PING, 0, 0, DRAIN_PING))
        self._loop.call_later(self._limits.drain_ping_s, self._drain_on)

    def cut(self) -> None:
        """End it now, with an answer to every call."""
        self._running.refuse_all(RpcError(RpcStatus.UNAVAILABLE, "the server stops"))
        self._end(frames.goaway(self._receiver.last_id, frames.NO_ERROR))

    def abort(self) -> None:
        """End it without a word."""
        self._is_ending = True
        if self._transport is not None:
            self._transport.abort()

    def _drain_on(self) -> None:
        if self._is_draining and not self._is_drained and not self._is_ending:
            self._is_drained = True
            self._receiver.final_id = self._receiver.last_id
            self._out.write(frames.goaway(self._receiver.last_id, frames.NO_ERROR))
            self._on_empty()

    def _on_empty(self) -> None:
        if self._is_drained and not self._running:
            self._end()

    def _fail(self, fault: ConnectionFault) -> None:
        log.warning("http2 connection ended", code=fault.code, reason=fault.message)
        self._server.metrics.inc("hubgate_grpc_faults_total", kind="protocol")
        self._end(frames.goaway(self._receiver.last_id, fault.code, fault.message))
        self._running.abandon()

    def _end(self, *last: bytes) -> None:
        """Say what there is to say, and wait for the peer to close.

        Closing while it still sends would take back what it has not read.
        """
        if self._is_ending:
            return
        self._is_ending = True
        self._ending_since = self._loop.time()
        for frame in last:
            self._out.write(frame)
        self._out.close()
        self.ended.set()


def _is_over(since: float | None, patience_s: float, now: float) -> bool:
    return since is not None and now - since > patience_s


def _probe(peer: socket.socket, limits: Limits) -> None:
    """Have the kernel find out when its machine has gone."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, limits.probe_after_s),
        (socket.TCP_KEEPINTVL, limits.probe_every_s),
        (socket.TCP_KEEPCNT, limits.probes),
    ):
        peer.setsockopt(socket.IPPROTO_TCP, option, value)
