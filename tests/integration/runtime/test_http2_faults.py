"""What ends a connection, or one stream of it (RFC 9113, sections 5.4 and 8.1.1).

grpcio is held to the same but where it takes what the protocol forbids: those cases
are ours alone. It also has other codes, or none: that it ends is what counts.
"""

from collections.abc import AsyncIterator, Callable

import pytest

from runtime.http2 import frames
from runtime.http2.frames import frame
from runtime.settings import GrpcTransport
from tests.integration.runtime.calls import PREFIX, Served, has, serving
from tests.integration.runtime.http2_peer import (
    Headers,
    Peer,
    connected,
    greeted,
    message,
    request_headers,
)

OURS, GRPCIO = GrpcTransport.HTTP2, GrpcTransport.GRPCIO
WAIT = request_headers(PREFIX + "Wait")


@pytest.fixture
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """Ours, unless a test's table names the transport."""
    async with serving(getattr(request, "param", OURS)) as served:
        yield served


@pytest.fixture
async def peer(served: Served) -> AsyncIterator[Peer]:
    async with greeted(served.address) as peer:
        yield peer


_Send = Callable[[Peer], bytes]
_P, _F, _S, _C = (
    frames.PROTOCOL_ERROR,
    frames.FLOW_CONTROL_ERROR,
    frames.FRAME_SIZE_ERROR,
    frames.COMPRESSION_ERROR,
)
_E = frames.END_HEADERS

#: By what a peer does: the frames, and GOAWAY's code.
STRICT: dict[str, tuple[_Send, int]] = {
    "a frame that is too large": (lambda _: frame(0, 0, 1, bytes(16_385)), _S),
    "an index that HPACK does not know": (lambda _: frame(1, _E, 1, b"\xfe"), _C),
    "a number that HPACK does not end": (lambda _: frame(1, _E, 1, b"\xff" * 30), _C),
    "a table too large": (lambda _: frame(1, _E, 1, b"\x3f\xff\xff\x03"), _C),
    "CONTINUATION of nothing": (lambda _: frame(9, _E, 1, b"x"), _P),
    "another frame within a block": (
        lambda _: frame(1, 0, 1, b"\x82") + frame(6, 0, 0, bytes(8)),
        _P,
    ),
    "another stream within a block": (
        lambda _: frame(1, 0, 1, b"\x82") + frame(9, _E, 3, b"\x82"),
        _P,
    ),
    "RST_STREAM of a wrong size": (
        lambda peer: peer.head(1) + frame(3, 0, 1, bytes(3)),
        _S,
    ),
    "SETTINGS of a stream": (lambda _: frame(4, 0, 1), _P),
    "SETTINGS of a wrong size": (lambda _: frame(4, 0, 0, bytes(5)), _S),
    "SETTINGS ACK with content": (lambda _: frame(4, 1, 0, bytes(6)), _S),
    "a window too large": (lambda _: frames.settings_frame({4: 2**31}), _F),
    "frames too small": (lambda _: frames.settings_frame({5: 16_383}), _P),
    "WINDOW_UPDATE of 0": (lambda _: frames.window_update(0, 0), _P),
    "WINDOW_UPDATE of a wrong size": (lambda _: frame(8, 0, 0, bytes(3)), _S),
}
#: What grpcio ignores, or waits on.
LENIENT: dict[str, tuple[_Send, int]] = {
    "DATA of no stream": (lambda _: frame(0, 0, 0, b"x"), _P),
    "DATA of an idle stream": (lambda _: frame(0, 0, 5, b"x"), _P),
    "HEADERS of no stream": (lambda peer: peer.head(0), _P),
    "HEADERS of an even stream": (lambda peer: peer.head(2), _P),
    "more padding than frame": (
        lambda peer: peer.head(1) + frame(0, frames.PADDED, 1, b"\x05abc"),
        _P,
    ),
    "padding without its length": (
        lambda peer: peer.head(1) + frame(0, frames.PADDED, 1),
        _S,
    ),
    "PRIORITY of no stream": (lambda _: frame(2, 0, 0, bytes(5)), _P),
    "RST_STREAM of an idle stream": (lambda _: frame(3, 0, 5, bytes(4)), _P),
    "ENABLE_PUSH of 2": (lambda _: frames.settings_frame({2: 2}), _P),
    "PUSH_PROMISE": (lambda _: frame(5, _E, 1, bytes(4)), _P),
    "PING of a stream": (lambda _: frame(6, 0, 1, bytes(8)), _P),
    "PING of a wrong size": (lambda _: frame(6, 0, 0, bytes(7)), _S),
    "GOAWAY of a stream": (lambda _: frame(7, 0, 1, bytes(8)), _P),
    "WINDOW_UPDATE of an idle stream": (lambda _: frames.window_update(5, 1), _P),
    "a connection's window beyond its size": (
        lambda _: frames.window_update(0, frames.MAX_WINDOW),
        _F,
    ),
}
BROKEN = {**STRICT, **LENIENT}


@pytest.mark.parametrize(
    ("served", "case"),
    [*((OURS, case) for case in BROKEN), *((GRPCIO, case) for case in STRICT)],
    indirect=["served"],
)
async def test_a_broken_frame_ends_its_connection_and_no_other(
    peer: Peer, served: Served, request: pytest.FixtureRequest, case: str
) -> None:
    send, code = BROKEN[case]
    async with greeted(served.address) as other:
        other.call(1, b"", WAIT)
        await has(served.service.started)
        peer.send(send(peer))
        ended = await peer.end()
        served.service.release.set()

        assert (await other.answer(1)).status == 0
    assert isinstance(request.node, pytest.Function)
    assert ended == code or request.node.callspec.params["served"] is GRPCIO


@pytest.mark.parametrize("served", GrpcTransport, indirect=True)
async def test_a_broken_connection_cancels_its_handlers(
    peer: Peer, served: Served
) -> None:
    peer.call(1, b"", WAIT)
    await has(served.service.started)
    peer.send(frame(frames.SETTINGS, 0, 0, bytes(5)))

    await has(served.service.cancelled)


@pytest.mark.parametrize("served", GrpcTransport, indirect=True)
@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP/1"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01", id="TLS"),
        pytest.param(frames.PREFACE[:-1] + b"x", id="almost the preface"),
    ],
)
async def test_what_is_not_http2_is_hung_up_on(served: Served, first: bytes) -> None:
    async with connected(served.address) as peer:
        peer.send(first + bytes(30))

        await peer.end()


async def test_settings_come_first(served: Served) -> None:
    async with connected(served.address) as peer:
        peer.send(frames.PREFACE, frame(frames.PING, 0, 0, bytes(8)))

        assert await peer.end() == frames.PROTOCOL_ERROR


MALFORMED: dict[str, Headers] = {
    "no path": [(":method", "POST"), (":scheme", "http")],
    "a space in a name": [*request_headers(), ("a b", "x")],
}
#: What grpcio reads all the same.
READABLE: dict[str, Headers] = {
    "a path after a field": [
        *request_headers()[:2],
        ("te", "trailers"),
        (":path", "/"),
    ],
    "two paths": [(":path", "/"), *request_headers()],
    "a status": [(":status", "200"), *request_headers()],
    "upper case": [*request_headers(), ("Upper", "x")],
    "connection": [*request_headers(), ("connection", "close")],
    "te": [*request_headers(), ("te", "gzip")],
    "a line's end in a value": [*request_headers(), ("a", "x\r\ny")],
}


@pytest.mark.parametrize(
    ("served", "headers"),
    [
        *(pytest.param(OURS, v, id=k) for k, v in {**MALFORMED, **READABLE}.items()),
        *(pytest.param(GRPCIO, v, id=f"grpcio {k}") for k, v in MALFORMED.items()),
    ],
    indirect=["served"],
)
async def test_malformed_headers_end_the_stream_alone(
    peer: Peer, headers: Headers
) -> None:
    peer.send(peer.head(1, headers))
    answer = await peer.answer(1)

    # grpcio gives one a status, and resets the other for an INTERNAL_ERROR.
    assert answer.reset in (frames.PROTOCOL_ERROR, 2) or (answer.status or 0) > 0
    assert await peer.ask(3) == b"HELLO"


@pytest.mark.parametrize(
    ("more", "reset"),
    [
        pytest.param(frames.window_update(1, 0), _P, id="an update of 0"),
        pytest.param(frames.window_update(1, 2**31 - 1), _F, id="a window too large"),
        pytest.param(frame(0, 1, 1, b"x"), frames.STREAM_CLOSED, id="DATA at the end"),
        pytest.param(
            frame(1, 5, 1, b"\x82"), frames.STREAM_CLOSED, id="HEADERS at the end"
        ),
        pytest.param(frame(2, 0, 1, b"x"), _S, id="a bad PRIORITY"),
    ],
)
async def test_a_broken_stream_is_reset_and_its_handler_cancelled(
    peer: Peer, served: Served, more: bytes, reset: int
) -> None:
    """Grpcio ignores some of these, and ends the connection for others."""
    peer.call(1, b"", WAIT)
    await has(served.service.started)
    peer.send(more)

    assert (await peer.answer(1)).reset == reset
    await has(served.service.cancelled)
    assert await peer.ask(3) == b"HELLO"


async def test_trailers_that_end_nothing_are_an_error(peer: Peer) -> None:
    peer.send(peer.head(1), peer.head(1, [("some", "trailer")]))

    assert (await peer.answer(1)).reset == frames.PROTOCOL_ERROR
    assert await peer.ask(3) == b"HELLO"


async def test_padding_of_data_is_no_content(peer: Peer) -> None:
    """Grpcio takes no padded DATA; nobody sends it."""
    padded = b"\x04" + message(b"hello") + bytes(4)
    peer.send(peer.head(1))
    peer.send(frame(frames.DATA, frames.PADDED | frames.END_STREAM, 1, padded))

    assert (await peer.answer(1)).text == b"HELLO"


# gRPC over HTTP/2. grpcio takes any content type, has a status for other methods,
# other statuses for wrong requests, and resets a stream at its deadline.


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        pytest.param({"content-type": "text/plain"}, "415", id="plain"),
        pytest.param({"content-type": "application/grpc-web"}, "415", id="web"),
        pytest.param({"content-type": "application/grpc+json"}, "415", id="json"),
        pytest.param({"content-type": "application/grpc+proto;v=1"}, "200", id="proto"),
        pytest.param({":method": "GET"}, "405", id="GET"),
    ],
)
async def test_what_is_no_grpc_gets_an_http_status(
    peer: Peer, changed: dict[str, str], status: str
) -> None:
    headers = [(name, changed.get(name, value)) for name, value in request_headers()]
    peer.call(1, b"hello", headers)

    assert (await peer.answer(1)).headers[":status"] == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(message(b"x", flag=1), 12, id="compressed"),
        pytest.param(message(b"x") + message(b"y"), 12, id="two messages"),
        pytest.param(b"", 12, id="no message"),
        pytest.param(message(b"hello")[:-1], 13, id="truncated"),
        pytest.param(b"\0\0\0", 13, id="truncated prefix"),
        pytest.param(b"\0\xff\xff\xff\xff", 8, id="too large"),
    ],
)
async def test_a_unary_request_is_one_whole_plain_message(
    peer: Peer, body: bytes, status: int
) -> None:
    peer.send(peer.head(1), peer.data(1, body))

    assert (await peer.answer(1)).status == status
    assert await peer.ask(3) == b"HELLO"


@pytest.mark.parametrize(
    ("given", "status"),
    [("50m", 4), ("50000u", 4), ("1n", 4), ("0S", 4), ("soon", 13), ("123456789m", 13)],
)
async def test_a_deadline_is_kept_and_a_malformed_one_refused(
    peer: Peer, given: str, status: int
) -> None:
    peer.call(1, b"", request_headers(PREFIX + "Wait", grpc_timeout=given))

    assert (await peer.answer(1)).status == status


async def test_a_refused_request_need_not_be_sent_to_its_end(peer: Peer) -> None:
    peer.send(peer.head(1, request_headers("/test.Calls/Whisper")))
    answer = await peer.answer(1)
    reset = await peer.until(frames.RST_STREAM)

    assert answer.status == 12
    assert int.from_bytes(reset.payload) == frames.NO_ERROR
    peer.send(peer.data(1, b"still on its way"))
    assert await peer.ask(3) == b"HELLO"


async def test_a_handler_that_was_cancelled_by_its_own_doing_is_an_error(
    peer: Peer,
) -> None:
    """Grpcio never answers."""
    peer.call(1, b"cancel")

    assert (await peer.answer(1)).status == 13
