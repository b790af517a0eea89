"""What one peer may take of our transport, however hostile; grpcio has its own limits.

Flow control both ways, floods, stalls, and the two halves of a drain.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest

from runtime.http2 import frames
from runtime.http2.frames import frame
from runtime.http2.limits import Limits
from runtime.settings import GrpcTransport
from tests.integration.runtime.calls import (
    PREFIX,
    Served,
    has,
    serving,
    serving_within,
)
from tests.integration.runtime.http2_peer import (
    DEADLINE_S,
    Frame,
    Peer,
    connected,
    greeted,
    message,
    request_headers,
)

#: Of the timers that proc(5) tells of a connection.
_KEEPALIVE = 2

WAIT = request_headers(PREFIX + "Wait")
GROW = request_headers(PREFIX + "Grow")
TALK = request_headers(PREFIX + "Talk")
IGNORE = request_headers(PREFIX + "Ignore")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(GrpcTransport.HTTP2) as served:
        yield served


@pytest.fixture
async def peer(served: Served) -> AsyncIterator[Peer]:
    async with greeted(served.address) as peer:
        yield peer


def within(**limits: float) -> AbstractAsyncContextManager[Served]:
    return serving_within(Limits(**limits))  # type: ignore[arg-type] # sizes are whole


def probed_in_s(server: int, client: int) -> float | None:
    """Until the kernel probes that connection's client; None: it has other timers."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, _, timer, *_ = line.split()
        ports = [int(one.rpartition(":")[2], 16) for one in (local, remote)]
        if ports == [server, client]:
            kind, _, ticks = timer.partition(":")
            is_keepalive = int(kind, 16) == _KEEPALIVE
            return int(ticks, 16) / os.sysconf("SC_CLK_TCK") if is_keepalive else None
    return None


def credit(peer: Peer, stream_id: int) -> int:
    """What the server has let us send beyond its settings."""
    updates = [one for one in peer.seen if one.kind == frames.WINDOW_UPDATE]
    return sum(
        int.from_bytes(one.payload) for one in updates if one.stream_id == stream_id
    )


def sizes(peer: Peer) -> list[int]:
    return [len(one.payload) for one in peer.seen if one.kind == frames.DATA]


# What we send: as the peer's windows allow.


async def test_an_answer_waits_for_the_streams_window(served: Served) -> None:
    async with greeted(served.address, {frames.INITIAL_WINDOW_SIZE: 10}) as peer:
        peer.call(1, b"100", GROW)
        await peer.until(frames.DATA)
        peer.send(frames.window_update(1, 20))
        await peer.until(frames.DATA)
        assert await peer.ask(3) == b"HELLO"  # others have their own
        peer.send(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 1000}))
        answer = await peer.answer(1)

    assert answer.text == b"x" * 100
    assert sizes(peer) == [10, 20, 10, 75]


async def test_a_window_may_become_negative(served: Served) -> None:
    async with greeted(served.address, {frames.INITIAL_WINDOW_SIZE: 50}) as peer:
        peer.call(1, b"100", GROW)
        await peer.until(frames.DATA)
        peer.send(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 0}))
        peer.send(frames.window_update(1, 51))
        await peer.until(frames.DATA)
        peer.send(frames.window_update(1, 1000))

        assert (await peer.answer(1)).status == 0
    assert sizes(peer) == [50, 1, 54]


async def test_calls_take_turns_at_the_connections_window(peer: Peer) -> None:
    peer.send(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 2**20}))
    for stream_id in (1, 3, 5):
        peer.call(stream_id, b"60000", GROW)
    got = 0
    while got < frames.DEFAULT_WINDOW:
        got += len((await peer.until(frames.DATA)).payload)
    while not all(peer.answers[stream_id].is_over for stream_id in (1, 3, 5)):
        peer.send(frames.window_update(0, 9000))
        await peer.frame()

    assert sum(sizes(peer)) == 3 * 60_005


async def test_a_call_that_is_cancelled_while_it_waits_gives_way(peer: Peer) -> None:
    peer.send(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 2**20}))
    for stream_id in (1, 3, 5):
        peer.call(stream_id, b"60000", GROW)
    got = 0
    while got < frames.DEFAULT_WINDOW:
        got += len((await peer.until(frames.DATA)).payload)
    peer.send(frames.window_update(0, 2**20), frames.rst_stream(3, frames.CANCEL))

    assert (await peer.answer(5)).status == 0


async def test_a_window_that_stays_shut_ends_its_call() -> None:
    async with within(stall_s=0.05) as served:
        no_window = {frames.INITIAL_WINDOW_SIZE: 0}
        async with greeted(served.address, no_window) as peer:
            peer.call(1, b"hello")

            assert (await peer.answer(1)).reset == frames.CANCEL


# What we take: as much as we said.


async def test_a_stream_that_is_not_read_gets_no_more_window() -> None:
    async with within(stream_window=1000) as served, greeted(served.address) as peer:
        peer.send(peer.head(1, IGNORE))
        await has(served.service.started)
        # Up to half of it may wait without a handler that reads.
        for _ in range(15):
            peer.send(peer.data(1, message(b"x" * 95), is_last=False))
        assert await peer.ask(3) == b"HELLO"
        assert credit(peer, 1) == 500
        peer.send(peer.data(1, b"x"))

        assert (await peer.answer(1)).reset == frames.FLOW_CONTROL_ERROR
        await has(served.service.cancelled)


async def test_a_stream_that_is_read_gets_its_window_again() -> None:
    async with within(stream_window=1000) as served, greeted(served.address) as peer:
        peer.send(peer.head(1, TALK))
        for _ in range(20):
            peer.send(peer.data(1, message(b"x" * 395), is_last=False))
            assert (await peer.until(frames.DATA)).payload == message(b"X" * 395)


async def test_a_message_may_be_larger_than_the_window() -> None:
    async with within(stream_window=1000) as served, greeted(served.address) as peer:
        peer.send(peer.head(1))
        rest, room = message(b"x" * 20_000), 1000
        while rest:
            part, rest = rest[:room], rest[room:]
            peer.send(peer.data(1, part, is_last=not rest))
            room -= len(part)
            while rest and room == 0:
                update = await peer.until(frames.WINDOW_UPDATE)
                room = int.from_bytes(update.payload) if update.stream_id else 0

        assert len((await peer.answer(1)).text) == 20_000


async def test_the_connections_window_is_refilled_as_it_is_used() -> None:
    limits = Limits(connection_window=100_000)
    async with serving_within(limits) as served, greeted(served.address) as peer:
        peer.send(frames.window_update(0, 2**20))
        for number in range(20):
            peer.call(2 * number + 1, b"x" * 10_000)
            assert (await peer.answer(2 * number + 1)).status == 0

        assert credit(peer, 0) >= 20 * 10_005 - frames.DEFAULT_WINDOW


@pytest.mark.parametrize("part", [1, 1000])
async def test_unread_requests_are_bounded_over_all_connections(part: int) -> None:
    """Tiny pieces count for what they take in memory."""
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(within(unread=100_000))
        one = await stack.enter_async_context(greeted(served.address))
        other = await stack.enter_async_context(greeted(served.address))
        for peer in (one, other):
            peer.send(peer.head(1), peer.data(1, b"\0\0\xff\xff\xff", is_last=False))
            for _ in range(60_000 // (part + 64)):
                peer.send(peer.data(1, bytes(part), is_last=False))
            assert await peer.ask(3) == b"HELLO"
        assert one.answers.keys() == {0, 3}
        assert other.answers[1].status == 8
        one.send(frames.rst_stream(1, frames.CANCEL))
        assert await one.ask(5) == b"HELLO"
        assert await other.ask(5) == b"HELLO"


# Floods.

Flood = Callable[[int], bytes]
_BLOCK = b"\x82\x86\x84"  # GET / of no authority

FLOODS: dict[str, Flood] = {
    "PING": lambda _: frame(frames.PING, 0, 0, bytes(8)),
    "SETTINGS": lambda _: frame(frames.SETTINGS, 0, 0),
    "SETTINGS ACK": lambda _: frame(frames.SETTINGS, frames.ACK, 0),
    "PRIORITY": lambda _: frame(frames.PRIORITY, 0, 9, bytes(5)),
    "an unknown kind": lambda _: frame(0xBE, 0, 0),
    "WINDOW_UPDATE": lambda _: frames.window_update(0, 1),
    "GOAWAY": lambda _: frame(frames.GOAWAY, 0, 0, bytes(8)),
    "empty DATA": lambda _: frame(frames.DATA, 0, 1),
    "DATA of a closed stream": lambda _: frame(frames.DATA, 0, 3, b"x"),
    "trailers of a closed stream": lambda _: frame(1, 5, 3, _BLOCK),
    "what is refused": lambda n: frame(1, 5, 2 * n + 5, _BLOCK),
    "resets of what is refused": lambda n: frames.rst_stream(3, n % 9),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_ends_the_connection(flood: str) -> None:
    async with within(noise=100, noise_per_s=0.0) as served:
        async with greeted(served.address) as peer:
            peer.send(peer.head(1), peer.head(3, WAIT, is_last=True))
            peer.send(*(FLOODS[flood](number) for number in range(150)))

            assert await peer.end() == frames.ENHANCE_YOUR_CALM
        assert served.metrics.value("hubgate_grpc_faults_total", kind="protocol") == 1


async def test_the_same_spread_over_time_does_not() -> None:
    limits = Limits(noise=10, noise_per_s=1e9)
    async with serving_within(limits) as served, greeted(served.address) as peer:
        for _ in range(100):
            peer.send(*(FLOODS["PING"](number) for number in range(5)))
            await peer.until(frames.PING)

        assert await peer.ask(1) == b"HELLO"


async def test_streams_that_are_opened_and_reset_get_no_more_handlers() -> None:
    """CVE-2023-44487."""
    async with within(streams=10) as served, greeted(served.address) as peer:
        for number in range(500):
            peer.call(2 * number + 1, b"", WAIT)
            peer.send(frames.rst_stream(2 * number + 1, frames.CANCEL))
        stream_id = 2001
        peer.call(stream_id, b"hello")
        # Those that are still being cancelled take up the room.
        while (answer := await peer.answer(stream_id)).reset == frames.REFUSED_STREAM:
            stream_id += 2
            peer.call(stream_id, b"hello")

        assert answer.text == b"HELLO"
        assert served.service.most_running <= 10
        assert served.service.running == 0


async def test_a_stream_beyond_the_limit_is_refused_and_may_be_tried_again() -> None:
    async with within(streams=2) as served, greeted(served.address) as peer:
        peer.call(1, b"", WAIT)
        peer.call(3, b"", WAIT)
        peer.call(5, b"hello")
        assert (await peer.answer(5)).reset == frames.REFUSED_STREAM
        peer.send(frames.rst_stream(1, frames.CANCEL))
        await has(served.service.cancelled)

        assert await peer.ask(7) == b"HELLO"


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"x"] * 30, id="many pieces"),
        pytest.param([b""] * 30, id="empty pieces"),
        pytest.param([b"\0\x7f" + bytes(16_000)] * 5, id="large pieces"),
    ],
)
async def test_a_header_block_that_does_not_end_ends_the_connection(
    peer: Peer, pieces: list[bytes]
) -> None:
    """CVE-2024-27316."""
    peer.send(frame(frames.HEADERS, 0, 1, b"\x82"))
    peer.send(*(frame(frames.CONTINUATION, 0, 1, piece) for piece in pieces))

    assert await peer.end() == frames.ENHANCE_YOUR_CALM


async def test_a_block_that_unfolds_to_much_ends_the_connection(peer: Peer) -> None:
    """A bomb: a byte that stands for 4,000."""
    peer.send(peer.head(1, [*request_headers(), ("a", "x" * 4000)]))
    peer.send(frame(1, frames.END_HEADERS, 3, b"\xbe" * 1000))

    assert await peer.end() == frames.ENHANCE_YOUR_CALM


async def test_a_peer_that_does_not_read_is_not_read_either() -> None:
    """Its PINGs fill the kernel's buffers and its own, not our memory."""
    async with within(noise=10**9, unsent=10_000, stall_s=0.3, check_s=0.05) as served:
        peer = socket.create_connection((served.address.host, served.address.port))
        peer.setblocking(False)  # noqa: FBT003 - its name
        pings = frame(frames.PING, 0, 0, bytes(8)) * 2_000_000  # 34 MB
        greeting = frames.PREFACE + frames.settings_frame({})
        with pytest.raises(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(peer, greeting + pings)
        peer.close()
        assert served.metrics.value("hubgate_grpc_faults_total", kind="stalled") == 1


async def test_connections_are_bounded() -> None:
    async with within(connections=2) as served:
        async with greeted(served.address) as one, greeted(served.address) as two:
            assert await one.ask(1) == b"HELLO"
            assert await two.ask(1) == b"HELLO"
            async with greeted(served.address) as three:
                assert await three.end() is None
        async with greeted(served.address) as four:
            assert await four.ask(1) == b"HELLO"


# Silence.


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(frames.PREFACE[:5], id="a part of the preface"),
        pytest.param(frames.PREFACE, id="no settings"),
    ],
)
async def test_a_greeting_has_its_time(said: bytes) -> None:
    limits = Limits(handshake_s=0.05, check_s=0.02)
    async with serving_within(limits) as served, connected(served.address) as peer:
        peer.send(said)

        await peer.end()


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(frame(frames.PING, 0, 0, bytes(8))[:-1], id="a frame"),
        pytest.param(frame(frames.HEADERS, 0, 1, b"\x82"), id="a header block"),
    ],
)
async def test_what_is_begun_must_be_ended_in_time(said: bytes) -> None:
    limits = Limits(stall_s=0.05, check_s=0.02)
    async with serving_within(limits) as served, greeted(served.address) as peer:
        assert await peer.ask(1) == b"HELLO"
        peer.send(said)

        await peer.end()


async def test_a_connection_without_calls_is_let_go_and_one_with_a_call_is_kept() -> (
    None
):
    async with AsyncExitStack() as stack:
        limits = Limits(idle_s=0.5, check_s=0.02, stall_s=0.05, drain_ping_s=0.05)
        served = await stack.enter_async_context(serving_within(limits))
        idle = await stack.enter_async_context(greeted(served.address))
        busy = await stack.enter_async_context(greeted(served.address))
        busy.send(busy.head(1, IGNORE))
        await has(served.service.started)

        assert await idle.end() == frames.NO_ERROR
        served.service.release.set()
        busy.send(busy.data(1, b""))
        assert (await busy.answer(1)).status == 0


# A drain: GOAWAY of everything, what is on its way, GOAWAY of the rest.


async def drained(peer: Peer) -> Frame:
    """The PING after the first GOAWAY."""
    first = await peer.until(frames.GOAWAY)
    assert int.from_bytes(first.payload[:4]) == frames.MAX_WINDOW
    return await peer.until(frames.PING)


async def test_a_drain_answers_what_is_on_its_way_and_refuses_the_rest(
    peer: Peer, served: Served
) -> None:
    peer.call(1, b"first", WAIT)
    await has(served.service.started)
    stopping = asyncio.create_task(served.server.stop(5))
    ping = await drained(peer)
    peer.call(3, b"on its way")
    peer.send(frame(frames.PING, frames.ACK, 0, ping.payload))
    assert (await peer.answer(3)).text == b"ON ITS WAY"
    last = await peer.until(frames.GOAWAY)
    assert int.from_bytes(last.payload[:4]) == 3
    peer.call(5, b"too late")
    assert (await peer.answer(5)).reset == frames.REFUSED_STREAM
    served.service.release.set()

    assert (await peer.answer(1)).text == b"first"
    assert await peer.end() is None
    await stopping


async def test_a_draining_server_accepts_no_connection(
    peer: Peer, served: Served
) -> None:
    peer.call(1, b"", WAIT)
    await has(served.service.started)
    stopping = asyncio.create_task(served.server.stop(5))
    await drained(peer)
    with pytest.raises(ConnectionError):
        async with greeted(served.address):
            pass
    served.service.release.set()
    peer.send(frame(frames.PING, frames.ACK, 0, b"hubgate\0"))
    await stopping


async def test_a_peer_that_answers_no_ping_is_drained_all_the_same() -> None:
    async with within(drain_ping_s=0.05) as served, greeted(served.address) as peer:
        assert await peer.ask(1) == b"HELLO"
        stopping = asyncio.create_task(served.server.stop(5))

        assert await peer.end() == frames.NO_ERROR
        await stopping


async def test_a_stop_without_grace_tells_every_call(
    peer: Peer, served: Served
) -> None:
    peer.call(1, b"", WAIT)
    peer.send(peer.head(3, IGNORE))
    await has(served.service.started, 2)
    await served.server.stop(0)

    assert (await peer.answer(1)).status == 14
    assert (await peer.answer(3)).status == 14
    assert await peer.end() == frames.NO_ERROR
    await has(served.service.cancelled, 2)


async def test_a_peer_that_never_greeted_does_not_keep_the_server(
    served: Served,
) -> None:
    async with connected(served.address) as peer:
        await peer.until(frames.SETTINGS)
        async with asyncio.timeout(2):
            await served.server.stop(60)


async def test_a_silent_peers_machine_is_asked_whether_it_is_there(
    served: Served, peer: Peer
) -> None:
    client = peer.writer.get_extra_info("sockname")[1]
    assert await peer.ask(1) == b"HELLO"
    async with asyncio.timeout(DEADLINE_S):
        while (due := probed_in_s(served.address.port or 0, client)) is None:
            await asyncio.sleep(0.01)

    assert due <= Limits().probe_after_s
