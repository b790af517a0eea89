"""Both transports carry the same calls of the same client, which is grpcio's."""

import asyncio
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from runtime.grpc_server import MAX_MESSAGE_BYTES, GrpcServer
from runtime.metrics import Metrics
from runtime.settings import Address, GrpcTransport
from tests.integration.runtime.calls import PREFIX, Served, Service, has, serving

_UNLIMITED = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]
_HEALTH = health_pb2.HealthCheckResponse


@dataclass(frozen=True)
class Client:
    """A channel to a server of the service."""

    channel: grpc.aio.Channel
    served: Served

    @property
    def service(self) -> Service:
        return self.served.service

    def call(
        self, name: str, text: bytes, **how: Any
    ) -> "grpc.aio.UnaryUnaryCall[Any, Any]":
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        ask = self.channel.unary_unary(PREFIX + name)
        return ask(text, **how)

    def stream(self, name: str) -> "grpc.aio.StreamStreamCall[Any, Any]":
        return self.channel.stream_stream(PREFIX + name)()

    async def error(self, name: str, text: bytes, **how: Any) -> tuple[Any, str | None]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(name, text, **how)
        return caught.value.code(), caught.value.details()


@pytest.fixture(params=GrpcTransport)
def transport(request: pytest.FixtureRequest) -> GrpcTransport:
    return GrpcTransport(request.param)


@pytest.fixture(params=[True, False], ids=["light", "in tasks"])
async def client(
    transport: GrpcTransport, request: pytest.FixtureRequest
) -> AsyncIterator[Client]:
    async with serving(transport, is_light=request.param) as served:
        target = served.address.grpc_target
        async with grpc.aio.insecure_channel(target, options=_UNLIMITED) as channel:
            yield Client(channel, served)


async def test_a_request_is_decoded_handled_and_encoded(client: Client) -> None:
    assert await client.call("Shout", b"hello") == b"HELLO"


async def test_a_socket_file_that_a_killed_process_left_is_replaced_and_removed(
    transport: GrpcTransport, tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    path.touch()
    async with serving(transport, path) as served:
        target = served.address.grpc_target
        async with grpc.aio.insecure_channel(target) as channel:
            answer = await Client(channel, served).call("Shout", b"hello")
        mode = path.stat().st_mode

    assert answer == b"HELLO"
    assert stat.S_ISSOCK(mode)
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "text", "code", "details", "failures"),
    [
        pytest.param(
            *("Shout", b"refuse", grpc.StatusCode.INVALID_ARGUMENT),
            *("say 100 % ünders\nomething else", 0),
            id="foreseen",
        ),
        pytest.param(
            *("Shout", b"break", grpc.StatusCode.INTERNAL, "internal error", 1),
            id="unforeseen",
        ),
        pytest.param(
            *("Unreadable", b"x", grpc.StatusCode.INTERNAL, "internal error", 1),
            id="a request that can't be decoded",
        ),
    ],
)
async def test_what_a_handler_raises_becomes_a_status(
    client: Client,
    name: str,
    text: bytes,
    code: grpc.StatusCode,
    details: str,
    failures: int,
) -> None:
    assert await client.error(name, text) == (code, details)
    counted = client.served.metrics.value(
        "hubgate_grpc_failures_total", method=PREFIX + name
    )
    assert counted == failures


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (b"refuse", grpc.StatusCode.INVALID_ARGUMENT),
        (b"break", grpc.StatusCode.INTERNAL),
    ],
)
async def test_a_stream_answers_until_its_handler_fails(
    client: Client, last: bytes, code: grpc.StatusCode
) -> None:
    stream = client.stream("Talk")
    await stream.write(b"a")
    first = await stream.read()
    await stream.write(last)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()

    assert first == b"A"
    assert caught.value.code() is code


async def test_a_stream_ends_when_the_client_has_said_all(client: Client) -> None:
    stream = client.stream("Talk")
    for text in (b"a", b"", b"b" * 100_000):
        await stream.write(text)
    await stream.done_writing()

    assert [message async for message in stream] == [b"A", b"", b"B" * 100_000]


async def test_a_client_may_stream_and_get_one_answer(client: Client) -> None:
    stream = client.stream("Join")
    for text in (b"a", b"b", b"c"):
        await stream.write(text)
    await stream.done_writing()

    assert [message async for message in stream] == [b"a+b+c"]


async def test_an_unknown_method_is_unimplemented(client: Client) -> None:
    code, _ = await client.error("Whisper", b"")

    assert code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("size", [0, 16_379, 16_380, 300_000, 5_000_000])
async def test_messages_of_any_size_come_and_go(client: Client, size: int) -> None:
    assert len(await client.call("Shout", b"x" * size)) == size
    assert len(await client.call("Grow", b"%d" % size)) == size


async def test_a_message_of_the_largest_size_passes_and_no_larger_one(
    client: Client,
) -> None:
    answer = await client.call("Shout", b"x" * MAX_MESSAGE_BYTES)
    code, _ = await client.error("Shout", b"x" * (MAX_MESSAGE_BYTES + 1))

    assert len(answer) == MAX_MESSAGE_BYTES
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_calls_run_beside_each_other(client: Client) -> None:
    waiting = [client.call("Wait", b"%d" % number) for number in range(100)]
    await has(client.service.started, 100)
    other = await client.call("Shout", b"hello")
    client.service.release.set()

    assert other == b"HELLO"
    assert await asyncio.gather(*waiting) == [b"%d" % number for number in range(100)]


@pytest.mark.parametrize("name", ["Wait", "Ignore"])
async def test_a_call_that_the_client_cancels_is_cancelled(
    client: Client, name: str
) -> None:
    call = client.call(name, b"") if name == "Wait" else client.stream(name)
    reading = asyncio.ensure_future(call.code())
    await has(client.service.started)
    call.cancel()

    await has(client.service.cancelled)
    assert await reading is grpc.StatusCode.CANCELLED
    assert await client.call("Shout", b"on") == b"ON"


async def test_a_client_that_hangs_up_cancels_its_calls(client: Client) -> None:
    call = client.call("Wait", b"")
    await has(client.service.started)
    await client.channel.close()

    await has(client.service.cancelled)
    assert call.done()


async def test_a_call_ends_at_its_deadline(client: Client) -> None:
    await client.call("Shout", b"")  # to open the connection takes time, too
    code, _ = await client.error("Wait", b"", timeout=0.5)

    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    await has(client.service.cancelled)


async def test_authorize_sees_the_metadata_the_last_of_each_name(
    client: Client,
) -> None:
    metadata = (("secret", "shut"), ("secret", "open"), ("some-bin", b"\0\xff"))
    answer = await client.call("Guarded", b"hello", metadata=metadata)
    code, details = await client.error("Guarded", b"", metadata=(("secret", "shut"),))

    seen = client.service.metadata[0]
    assert answer == b"HELLO"
    assert (code, details) == (grpc.StatusCode.UNAUTHENTICATED, "no")
    assert (seen["secret"], seen["some-bin"]) == ("open", b"\0\xff")
    assert "user-agent" in seen


async def test_large_metadata_is_refused_and_the_connection_goes_on(
    client: Client,
) -> None:
    code, _ = await client.error("Shout", b"", metadata=(("a", "x" * 20_000),))

    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await client.call("Shout", b"on") == b"ON"


async def test_the_standard_health_service_answers_until_the_server_stops(
    client: Client,
) -> None:
    stub = health_pb2_grpc.HealthStub(client.channel)
    watching = stub.Watch(health_pb2.HealthCheckRequest())
    answer = await stub.Check(health_pb2.HealthCheckRequest())
    first = await watching.read()
    # Begun before the end: of a call that is over grpcio reads nothing more.
    last = asyncio.ensure_future(watching.read())
    await client.served.server.stop(1)

    assert answer.status == first.status == _HEALTH.SERVING
    assert (await last).status == _HEALTH.NOT_SERVING
    assert await watching.read() is grpc.aio.EOF


async def test_the_health_of_an_unknown_service_is_unknown(client: Client) -> None:
    stub = health_pb2_grpc.HealthStub(client.channel)
    request = health_pb2.HealthCheckRequest(service="other")
    watching = stub.Watch(request)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(request)

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert (await watching.read()).status == _HEALTH.SERVICE_UNKNOWN
    watching.cancel()


async def test_a_stopping_server_lets_running_calls_end(client: Client) -> None:
    call = client.call("Wait", b"last")
    await has(client.service.started)
    stopping = asyncio.create_task(client.served.server.stop(5))
    await asyncio.sleep(0)
    client.service.release.set()

    assert await call == b"last"
    await stopping


async def test_a_stopping_server_cuts_what_does_not_end_in_time(client: Client) -> None:
    call = client.call("Wait", b"")
    await has(client.service.started)
    await client.served.server.stop(0.05)

    await has(client.service.cancelled)
    assert await call.code() in (
        grpc.StatusCode.UNAVAILABLE,  # ours says why
        grpc.StatusCode.CANCELLED,  # grpcio's
    )


async def test_a_taken_port_is_an_error(transport: GrpcTransport) -> None:
    here = Address(host="127.0.0.1")
    first = GrpcServer(here, [], Metrics(), transport)
    await first.start()
    taken = Address(host="127.0.0.1", port=first.port)
    second = GrpcServer(taken, [], Metrics(), transport)
    with pytest.raises(RuntimeError):
        await second.start()
    await first.stop(0)
