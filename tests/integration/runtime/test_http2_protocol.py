"""What both transports make of frames that are in order (RFC 9113, RFC 7541)."""

from collections.abc import AsyncIterator

import pytest

from runtime.http2 import frames
from runtime.http2.frames import frame
from runtime.settings import GrpcTransport
from tests.integration.runtime.calls import PREFIX, Served, has, serving
from tests.integration.runtime.http2_peer import (
    Headers,
    Peer,
    greeted,
    message,
    request_headers,
)


@pytest.fixture(params=GrpcTransport)
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serving(request.param) as served:
        yield served


@pytest.fixture
async def peer(served: Served) -> AsyncIterator[Peer]:
    """Greeted, so that a test begins with the frame it is about."""
    async with greeted(served.address) as peer:
        yield peer


async def test_a_call_is_answered_by_headers_a_message_and_trailers(peer: Peer) -> None:
    peer.call(1, b"hello")
    answer = await peer.answer(1)

    assert answer.headers[":status"] == "200"
    assert answer.headers["content-type"] == "application/grpc"
    assert (answer.text, answer.status, answer.reset) == (b"HELLO", 0, None)


async def test_bytes_may_come_one_by_one(peer: Peer) -> None:
    data = peer.head(1) + peer.data(1, message(b"hello"))
    for number in range(len(data)):
        peer.send(data[number : number + 1])
        await peer.writer.drain()

    assert (await peer.answer(1)).text == b"HELLO"


async def test_many_calls_may_come_at_once(peer: Peer) -> None:
    for stream_id in range(1, 200, 2):
        peer.call(stream_id, b"%d" % stream_id)
    answers: list[tuple[int, int]] = []
    while len(answers) < 100:
        one = await peer.frame()
        assert one is not None
        if one.kind == frames.DATA:
            answers.append((one.stream_id, int(one.payload[5:])))

    assert sorted(answers) == [(number, number) for number in range(1, 200, 2)]


async def test_settings_and_pings_are_acknowledged(peer: Peer) -> None:
    await peer.until(frames.SETTINGS, frames.ACK)
    peer.send(frame(frames.PING, 0, 0, b"12345678"))
    pong = await peer.until(frames.PING, frames.ACK)

    assert pong.payload == b"12345678"


@pytest.mark.parametrize(
    "ignored",
    [
        pytest.param(frame(0xBE, 0xFF, 1, b"???"), id="an unknown kind"),
        pytest.param(frame(frames.PRIORITY, 0, 9, bytes(5)), id="PRIORITY"),
        pytest.param(frames.settings_frame({0xBEEF: 7}), id="an unknown setting"),
        pytest.param(frame(frames.PING, frames.ACK, 0, bytes(8)), id="an unasked pong"),
        pytest.param(frame(frames.SETTINGS, frames.ACK, 0), id="SETTINGS ACK"),
    ],
)
async def test_what_means_nothing_here_is_ignored(peer: Peer, ignored: bytes) -> None:
    peer.send(ignored)

    assert await peer.ask(1) == b"HELLO"


async def test_priority_of_headers_is_no_content(peer: Peer) -> None:
    block = peer.encoder.encode(request_headers())
    flags = frames.END_HEADERS | frames.PRIORITISED
    payload = b"\0\0\0\0\x10" + block
    peer.send(frame(frames.HEADERS, flags, 1, payload))
    peer.send(peer.data(1, message(b"hello")))

    assert (await peer.answer(1)).text == b"HELLO"


async def test_a_header_block_may_come_in_pieces(peer: Peer) -> None:
    block = peer.encoder.encode(request_headers())
    peer.send(frame(frames.HEADERS, 0, 1, block[:3]))
    peer.send(frame(frames.CONTINUATION, 0, 1, block[3:9]))
    peer.send(frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[9:]))
    peer.send(peer.data(1, message(b"hello")))

    assert (await peer.answer(1)).text == b"HELLO"


async def test_a_request_may_end_by_an_empty_frame_or_by_trailers(peer: Peer) -> None:
    for stream_id in (1, 3):
        peer.send(peer.head(stream_id))
        peer.send(peer.data(stream_id, message(b"hello")[:2], is_last=False))
        peer.send(peer.data(stream_id, message(b"hello")[2:], is_last=False))
    peer.send(peer.data(1, b""))
    assert (await peer.answer(1)).text == b"HELLO"
    peer.send(peer.head(3, [("some", "trailer")], is_last=True))
    assert (await peer.answer(3)).text == b"HELLO"


async def test_headers_follow_the_dynamic_table(peer: Peer) -> None:
    """Of equal blocks none means what another meant before the table changed."""
    table: list[Headers] = [
        request_headers(PREFIX + "Guarded", secret="open"),
        request_headers(PREFIX + "Guarded", secret="shut"),
        request_headers(PREFIX + "Guarded", secret="open", other="x" * 3000),
        request_headers(PREFIX + "Guarded", secret="shut", third="y" * 3000),
    ]
    for number, headers in enumerate(table * 6):
        if number % 5 == 4:
            peer.encoder.header_table_size = (0, 64, 4096)[number % 3]
        stream_id = 2 * number + 1
        peer.call(stream_id, b"hello", headers)
        answer = await peer.answer(stream_id)
        assert answer.status == (0 if ("secret", "open") in headers else 16)


async def test_a_peer_without_a_header_table_can_read_every_answer(
    served: Served,
) -> None:
    async with greeted(served.address, {frames.HEADER_TABLE_SIZE: 0}) as peer:
        peer.decoder.max_allowed_table_size = 0
        await peer.until(frames.SETTINGS, frames.ACK)

        assert await peer.ask(1) == b"HELLO"
        assert await peer.ask(3) == b"HELLO"


async def test_an_answer_to_a_stream_that_was_reset_is_dropped(
    peer: Peer, served: Served
) -> None:
    """Envoy resets a call that took too long just when its answer is on its way."""
    waiting = request_headers(PREFIX + "Wait")
    peer.call(1, b"", waiting)
    peer.call(3, b"hello")
    await has(served.service.started)
    served.service.release.set()
    peer.send(frames.rst_stream(1, frames.CANCEL), frames.rst_stream(3, frames.CANCEL))
    peer.send(frames.window_update(1, 5), frames.rst_stream(1, frames.CANCEL))

    assert await peer.ask(5) == b"HELLO"
