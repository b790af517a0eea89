"""What one peer may take: each number with its reason."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a server and of each of its connections; sizes in bytes."""

    connections: int = 1000
    #: At once on a connection, handlers that still wind up included: a stream that is
    #: reset at once and opened again (CVE-2023-44487) does not get a second handler.
    #: Envoy counts on 1,024 before it has read our settings.
    streams: int = 2048
    #: A peer may be told to stop only after it has sent more (as grpcio: 16 KiB).
    header_list: int = 16 * 1024
    #: Beyond this the connection ends, also for a block that never ends
    #: (CVE-2024-27316).
    header_block: int = 64 * 1024
    continuations: int = 16
    #: What may come for one stream before its handler reads. A message may be larger.
    stream_window: int = 256 * 1024
    connection_window: int = 4 * 1024 * 1024
    #: Unread requests of all connections: four of the largest messages.
    unread: int = 256 * 1024 * 1024
    #: Waiting for a peer that does not read, before its calls stop being read too.
    unsent: int = 1024 * 1024
    #: Frames that no call needs (PING, SETTINGS, RST_STREAM, empty DATA, …), at once
    #: and per second. Envoy resets a stream for each call that times out: the rate is
    #: what a stalled Redis makes it send at most.
    noise: int = 10_000
    noise_per_s: float = 5_000
    handshake_s: float = 10.0
    #: A frame that does not end, an answer that is not read.
    stall_s: float = 60.0
    #: No call for so long: the peer is asked to open a new connection when it needs it.
    idle_s: float = 900.0
    #: When a peer was silent for so long, its machine is asked whether it is there, and
    #: so often again (TCP's own probes): a call may be silent for hours, and ends two
    #: minutes after the machine vanished.
    probe_after_s: int = 60
    probe_every_s: int = 10
    probes: int = 6
    #: How long a peer may take to answer the PING that ends a drain's first half.
    drain_ping_s: float = 1.0
    #: For a peer to close a connection that is at its end.
    linger_s: float = 1.0
    #: How often deadlines of calls are looked at. The caller keeps them exactly.
    deadline_tick_s: float = 0.05
    #: How often connections are looked at.
    check_s: float = 1.0
