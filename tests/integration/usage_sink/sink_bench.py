"""A whole usage sink over loopback gRPC, and what Envoy would send to it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import grpc.aio
import httpx
from envoy.service.accesslog.v3 import als_pb2

from local.ports import free_ports
from usage_sink import otlp
from usage_sink.__main__ import serve
from usage_sink.service import ALS_PATH
from usage_sink.settings import Settings

PRICES = {
    "version": "v1",
    "prices": [
        {
            "service": "openai",
            "model": "gpt-4o*",
            "from": "2026-01-01",
            "input_per_1000": "2.5",
            "output_per_1000": "10",
            "cached_per_1000": "1.25",
        }
    ],
}
NO_REDIS = "redis://127.0.0.1:1/0"
DEADLINE_S = 30.0


class Sink:
    """A running sink and a client of it."""

    def __init__(self, settings: Settings, channel: grpc.aio.Channel) -> None:
        self.settings = settings
        self.export: Callable[[Any], Awaitable[Any]] = channel.unary_unary(
            otlp.EXPORT_PATH,
            request_serializer=otlp.ExportRequest.SerializeToString,
            response_deserializer=otlp.ExportResponse.FromString,
        )
        self.stream = channel.stream_unary(
            ALS_PATH,
            request_serializer=als_pb2.StreamAccessLogsMessage.SerializeToString,
            response_deserializer=als_pb2.StreamAccessLogsResponse.FromString,
        )
        self.raw_export: Any = channel.unary_unary(otlp.EXPORT_PATH)
        self.stop = asyncio.Event()

    async def export_like_envoy(self, request: Any) -> None:
        """Again and again while the answer is UNAVAILABLE, as Envoy is told to."""
        async with asyncio.timeout(30):
            while True:
                try:
                    await self.export(request)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    await asyncio.sleep(0.05)
                else:
                    return

    async def health(self) -> dict[str, Any]:
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://{self.settings.ops_listen}/health/ready")
        body: dict[str, Any] = answer.json()
        return body

    async def has_failed_to_write(self) -> bool:
        return "store_failures_total 0.0" not in await self.metrics()

    async def metrics(self) -> str:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://{self.settings.ops_listen}/metrics")).text


@asynccontextmanager
async def a_sink(folder: Path, database: str, redis: str, **more: str) -> Any:
    (port,) = free_ports(1)
    settings = Settings.from_environ(
        {
            "HUBGATE_ENV": "test",
            "HUBGATE_USAGE_SINK_LISTEN": f"unix:{folder}/sink.sock",
            "HUBGATE_USAGE_SINK_SPOOL_DIR": f"{folder}/spool",
            "HUBGATE_OPS_LISTEN": f"127.0.0.1:{port}",
            "HUBGATE_DATABASE_URL": database,
            "HUBGATE_REDIS_URL": redis,
            "HUBGATE_USAGE_SINK_PRICES_WAIT_S": "0",
            "HUBGATE_DRAIN_TIMEOUT_S": "2",
            **more,
        }
    )
    target = settings.usage_sink_listen.grpc_target
    async with grpc.aio.insecure_channel(
        target, options=[("grpc.max_reconnect_backoff_ms", 100)]
    ) as channel:
        sink = Sink(settings, channel)
        serving = asyncio.create_task(serve(settings, sink.stop))
        ready = asyncio.ensure_future(channel.channel_ready())
        try:
            await asyncio.wait({ready, serving}, return_when="FIRST_COMPLETED")
            ready.cancel()
            yield sink
        finally:
            sink.stop.set()
            async with asyncio.timeout(15):
                await serving


def attributes(**changes: str) -> dict[str, str]:
    return {
        "id": str(uuid4()),
        "start": "1795306215.541760",
        "route": "mcp",
        "service": "mcp-server",
        "status": "200",
        **changes,
    }


def an_ai_call() -> dict[str, str]:
    return attributes(
        user_id="u-1",
        llm_protocol="1",
        llm_model="gpt-4o-mini",
        llm_status="1",
        llm_input="1000",
        llm_output="100",
        llm_cached="400",
    )


def an_export(*entries: dict[str, str]) -> Any:
    request: Any = otlp.ExportRequest()
    logs = request.resource_logs.add()
    logs.resource.attributes.add(key="node_name").value.string_value = "node-1"
    scope = logs.scope_logs.add()
    for entry in entries:
        record = scope.log_records.add()
        for key, value in entry.items():
            record.attributes.add(key=key).value.string_value = value
    return request


def a_message(*entries: dict[str, str], node: str = "") -> Any:
    message = als_pb2.StreamAccessLogsMessage()
    if node:
        message.identifier.node.id = node
    for entry in entries:
        tags = message.http_logs.log_entry.add().common_properties.custom_tags
        tags.update(entry)
    return message


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await happened():
            await asyncio.sleep(0.02)


async def rows_are(database: asyncpg.Connection, count: int) -> None:
    async def are_there() -> bool:
        found = await database.fetchval("SELECT to_regclass('usage_logs')")
        return found is not None and len(await ids(database)) == count

    await until(are_there)


async def rows_are_at(url: str, count: int) -> None:
    database = await asyncpg.connect(url)
    await rows_are(database, count)
    await database.close()


async def ids(database: asyncpg.Connection) -> list[str]:
    return [str(row[0]) for row in await database.fetch("SELECT id FROM usage_logs")]


def ids_of(entries: Iterable[dict[str, str]]) -> list[str]:
    return [entry["id"] for entry in entries]


async def metric_is(sink: Sink, line: str) -> None:
    async def is_there() -> bool:
        return line in await sink.metrics()

    await until(is_there)
