"""A handler is a plain function; the server turns what it does into gRPC."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from runtime.grpc_server import GrpcServer, Method, RpcError, RpcStatus, Stream, Unary
from runtime.metrics import Metrics
from runtime.settings import Address


@dataclass(frozen=True)
class Word:
    text: str

    @classmethod
    def decode(cls, data: bytes) -> "Word":
        return cls(data.decode())

    def encode(self) -> bytes:
        return self.text.encode()


async def shout(request: Word) -> Word:
    if request.text == "refuse":
        raise RpcError(RpcStatus.INVALID_ARGUMENT, "say something else")
    if request.text == "break":
        raise RecursionError
    return Word(request.text.upper())


async def echo(requests: AsyncIterator[Word]) -> AsyncIterator[Word]:
    async for request in requests:
        yield await shout(request)


METHODS: list[Method] = [
    Unary("/test.Echo/Shout", Word.decode, Word.encode, shout),
    Stream("/test.Echo/Talk", Word.decode, Word.encode, echo),
]


@pytest.fixture(params=["tcp", "unix"])
async def served(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[grpc.aio.Channel, Metrics]]:
    metrics = Metrics()
    address = Address(host="127.0.0.1")
    if request.param == "unix":
        address = Address(path=str(tmp_path / "s"))
        (tmp_path / "s").touch()  # as a killed process leaves it
    server = GrpcServer(address, METHODS, metrics)
    await server.start()
    target = str(address) if address.path else f"127.0.0.1:{server.port}"
    async with grpc.aio.insecure_channel(target) as channel:
        yield channel, metrics
    await server.stop(1)


def talk(channel: grpc.aio.Channel) -> "grpc.aio.StreamStreamCall[bytes, bytes]":
    return channel.stream_stream("/test.Echo/Talk")()


async def call(
    channel: grpc.aio.Channel, text: str, path: str = "/test.Echo/Shout"
) -> bytes:
    ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
    return await ask(text.encode())


async def test_a_request_is_decoded_handled_and_encoded(
    served: tuple[grpc.aio.Channel, Metrics],
) -> None:
    assert await call(served[0], "hello") == b"HELLO"


@pytest.mark.parametrize(
    ("text", "code", "details"),
    [
        ("refuse", grpc.StatusCode.INVALID_ARGUMENT, "say something else"),
        ("break", grpc.StatusCode.INTERNAL, "internal error"),
    ],
    ids=["foreseen", "unforeseen"],
)
async def test_what_a_handler_raises_becomes_a_status(
    served: tuple[grpc.aio.Channel, Metrics],
    text: str,
    code: grpc.StatusCode,
    details: str,
) -> None:
    channel, metrics = served
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, text)

    assert (caught.value.code(), caught.value.details()) == (code, details)
    failures = metrics.value("hubgate_grpc_failures_total", method="/test.Echo/Shout")
    assert failures == (1 if text == "break" else 0)


@pytest.mark.parametrize(
    ("last", "code"),
    [
        ("refuse", grpc.StatusCode.INVALID_ARGUMENT),
        ("break", grpc.StatusCode.INTERNAL),
    ],
)
async def test_a_stream_answers_until_its_handler_fails(
    served: tuple[grpc.aio.Channel, Metrics], last: str, code: grpc.StatusCode
) -> None:
    stream = talk(served[0])
    await stream.write(b"a")
    first = await stream.read()
    await stream.write(last.encode())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()

    assert first == b"A"
    assert caught.value.code() is code


async def test_a_stream_ends_when_the_client_has_said_all(
    served: tuple[grpc.aio.Channel, Metrics],
) -> None:
    stream = talk(served[0])
    await stream.write(b"a")
    await stream.done_writing()

    assert [message async for message in stream] == [b"A"]


async def test_an_unknown_method_is_unimplemented(
    served: tuple[grpc.aio.Channel, Metrics],
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(served[0], "", "/test.Echo/Whisper")

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_standard_health_service_answers(
    served: tuple[grpc.aio.Channel, Metrics],
) -> None:
    stub = health_pb2_grpc.HealthStub(served[0])

    answer = await stub.Check(health_pb2.HealthCheckRequest())

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_taken_port_is_an_error() -> None:
    first = GrpcServer(Address(host="127.0.0.1"), METHODS, Metrics())
    await first.start()
    second = GrpcServer(Address(host="127.0.0.1", port=first.port), METHODS, Metrics())
    with pytest.raises(RuntimeError):
        await second.start()
    await first.stop(0)
