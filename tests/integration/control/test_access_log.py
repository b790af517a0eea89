"""What Envoy sends to usage_sink: the same attributes over both transports."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from envoy.service.accesslog.v3 import als_pb2

from control.xds.deployment import LogTransport
from runtime.contracts import USAGE_HEADERS, DecisionCalls
from runtime.contracts.access_log import ACCESS_LOG_ATTRIBUTES, LOG_OWN
from runtime.grpc_server import GrpcServer, RpcError, RpcStatus, Stream, Unary
from runtime.metrics import Metrics
from runtime.settings import Address
from tests.integration.control.envoy_bench import a_bench
from usage_sink import lines, otlp

pytestmark = pytest.mark.e2e

DEADLINE_S = 10.0
#: Of a call that Envoy can repeat.
REPEATABLE_BYTES = 64 * 1024
SILENT = (
    "reason",
    "limits",
    "session_id",
    "conversation_id",
    "usage_input",
    "usage_output",
)


class Sink:
    """Takes entries over OTLP and ALS."""

    def __init__(self) -> None:
        self.entries: asyncio.Queue[tuple[str, dict[str, str]]] = asyncio.Queue()

    def methods(self) -> list[Unary | Stream]:
        return [
            Unary(
                otlp.EXPORT_PATH,
                otlp.ExportRequest.FromString,
                otlp.ExportResponse.SerializeToString,
                self.export,
            ),
            Stream(
                "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
                als_pb2.StreamAccessLogsMessage.FromString,
                als_pb2.StreamAccessLogsResponse.SerializeToString,
                self.stream,
            ),
        ]

    async def export(self, request: Any) -> Any:
        for node, attributes in otlp.entries(request.SerializeToString()):
            self.entries.put_nowait((node, attributes))
        return otlp.ExportResponse()

    async def stream(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        node = ""
        async for message in messages:
            node = message.identifier.node.id or node
            for entry in message.http_logs.log_entry:
                tags = dict(entry.common_properties.custom_tags)
                self.entries.put_nowait((node, tags))
        yield als_pb2.StreamAccessLogsResponse()


@pytest.mark.parametrize("transport", list(LogTransport))
async def test_an_entry_has_every_attribute_and_arrives_in_time(
    tmp_path: Path, transport: LogTransport
) -> None:
    sink = Sink()
    here = Address(host="127.0.0.1", port=0)
    server = GrpcServer(here, sink.methods(), Metrics())
    await server.start()
    sinks = (Address(host="127.0.0.1", port=server.port),)
    try:
        async with a_bench(
            tmp_path, log_transport=transport, usage_sink=sinks
        ) as bench:
            answer = await bench.client.get("/ai/openai/stream?secret=1")
            async with asyncio.timeout(DEADLINE_S):
                node, entry = await sink.entries.get()
    finally:
        await server.stop(0.0)

    # ALS leaves out a tag without a value.
    silent = {one for one in ACCESS_LOG_ATTRIBUTES if one not in entry}
    assert silent <= {*SILENT, *(f"usage_{one}" for one in USAGE_HEADERS)}
    assert set(entry) <= set(ACCESS_LOG_ATTRIBUTES)
    if transport is LogTransport.OTLP:
        assert tuple(entry)[: len(LOG_OWN)] == LOG_OWN
    assert node == "envoy-1"
    assert entry["id"] == answer.headers["x-request-id"]
    assert entry["path"] == "/ai/openai/stream"
    assert (entry["route"], entry["service"], entry["status"]) == ("ai", "up", "200")
    assert (entry["llm_input"], entry["llm_output"]) == ("11", "7")
    assert (entry["user_id"], entry["role"]) == ("u-1", "user")


@pytest.mark.parametrize("path", ["/echo", "/ai/openai/stream"])
async def test_the_file_log_says_what_the_sink_is_told(
    tmp_path: Path, path: str
) -> None:
    sink = Sink()
    here = Address(host="127.0.0.1", port=0)
    server = GrpcServer(here, sink.methods(), Metrics())
    await server.start()
    sinks = (Address(host="127.0.0.1", port=server.port),)
    name = 'he said "no" \\ é %REQ(:METHOD)% '
    try:
        async with a_bench(
            tmp_path, usage_sink=sinks, calls=DecisionCalls.ONE
        ) as bench:
            bench.gatekeeper.identity = {
                "user_id": name,
                "counters": "9;8;60;a|9;7;1;b",
            }
            answer = await bench.client.get(path)
            async with asyncio.timeout(DEADLINE_S):
                _, told = await sink.entries.get()
            logged = await bench.entry(answer.headers["x-request-id"])
    finally:
        await server.stop(0.0)

    ((_, read),) = lines.entries(lines.payload_of("envoy-1", [logged]))
    assert {key: text or "-" for key, text in read.items()} == told
    assert (logged["user_id"], logged["role"]) == (name, "-")
    assert logged["limits"] == "9;8;60;a|9;7;1;b"


class SinkThatWasAway(Sink):
    """Refuses as many full batches as it is told."""

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self.refused: list[int] = []
        self._refusals = refusals

    async def export(self, request: Any) -> Any:
        size = request.ByteSize()
        if len(self.refused) < self._refusals and size > 0.8 * REPEATABLE_BYTES:
            self.refused.append(size)
            raise RpcError(RpcStatus.UNAVAILABLE, "away")
        return await super().export(request)


async def test_a_full_batch_comes_again_after_the_sink_was_away(tmp_path: Path) -> None:
    refusals, here = 3, Address(host="127.0.0.1", port=0)
    sink = SinkThatWasAway(refusals)
    server = GrpcServer(here, sink.methods(), Metrics())
    await server.start()
    sinks = (Address(host="127.0.0.1", port=server.port),)
    # So long that eight fill a batch, if they come before the time for one is over.
    long = "x" * 7000
    sent: set[str] = set()
    came: set[str] = set()
    try:
        async with a_bench(tmp_path, usage_sink=sinks) as bench:
            async with asyncio.timeout(DEADLINE_S):
                while len(sink.refused) < refusals:
                    # Of no route: Envoy answers by itself, so that they come quickly.
                    answers = await asyncio.gather(
                        *(bench.client.get(f"/none/{one}/{long}") for one in range(150))
                    )
                    sent |= {answer.headers["x-request-id"] for answer in answers}
            async with asyncio.timeout(DEADLINE_S):
                while not sent <= came:
                    came.add((await sink.entries.get())[1]["id"])
    finally:
        await server.stop(0.0)

    assert came == sent
    assert max(sink.refused) < REPEATABLE_BYTES
