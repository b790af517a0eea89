"""The whole usage sink over loopback gRPC, with real PostgreSQL and Valkey."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import grpc.aio
import httpx
import pytest
from envoy.service.accesslog.v3 import als_pb2
from redis.asyncio import Redis

from local.engines import running_postgres
from local.ports import free_ports
from runtime import config_channel
from usage_sink import otlp
from usage_sink.__main__ import serve
from usage_sink.service import ALS_PATH
from usage_sink.settings import Settings

pytestmark = pytest.mark.integration

ENVOY_EXPORT = Path(__file__).parent / "envoy_export.bin"
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


@pytest.fixture
async def sink(
    tmp_path: Path, fresh_database_url: str, redis_url: str, redis_client: Redis
) -> AsyncIterator[Sink]:
    await config_channel.publish(redis_client, "usage_sink", PRICES)
    wait = {"HUBGATE_USAGE_SINK_PRICES_WAIT_S": "30"}
    async with a_sink(tmp_path, fresh_database_url, redis_url, **wait) as running:
        yield running


@pytest.fixture
async def database(fresh_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(fresh_database_url)
    yield connection
    await connection.close()


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


async def test_what_is_exported_becomes_rows(
    sink: Sink, database: asyncpg.Connection
) -> None:
    await sink.export_like_envoy(an_export(an_ai_call(), attributes()))

    await rows_are(database, 2)
    rows = await database.fetch("SELECT * FROM usage_logs ORDER BY tokens DESC")
    call, plain = rows
    assert (call["service"], call["model"]) == ("openai", "gpt-4o-mini")
    assert (call["user_id"], call["tokens"], call["credits"]) == ("u-1", 1100, 3)
    assert (call["pricing"], call["price_version"]) == ("priced", "v1")
    assert (call["usage_source"], call["node"]) == ("provider", "node-1")
    assert (plain["service"], plain["pricing"]) == ("mcp-server", "free")


async def test_what_envoy_sent_is_understood(
    sink: Sink, database: asyncpg.Connection
) -> None:
    """Bytes of one Export call of Envoy 1.40, as they came."""
    request = otlp.ExportRequest.FromString(ENVOY_EXPORT.read_bytes())

    await sink.export_like_envoy(request)

    await rows_are(database, 8)
    rows = await database.fetch(
        "SELECT service, model, tokens FROM usage_logs ORDER BY created_at LIMIT 2"
    )
    assert [tuple(row) for row in rows] == [
        ("openai", "gpt-4o-mini-2024-07-18", 124),
        ("claude", "claude-3-5-sonnet-20241022", 131),
    ]


async def test_a_replay_over_either_transport_adds_nothing(
    sink: Sink, database: asyncpg.Connection
) -> None:
    entries = [an_ai_call() for _ in range(5)]

    for _ in range(3):
        await sink.export_like_envoy(an_export(*entries))
    last = attributes()
    await sink.stream(iter([a_message(*entries, last, node="node-1")]))

    await rows_are(database, 6)  # what is sent last is loaded last
    entries.append(last)
    assert sorted(await ids(database)) == sorted(ids_of(entries))


async def test_a_malformed_entry_is_kept_aside_and_never_repeated(
    sink: Sink, database: asyncpg.Connection
) -> None:
    entries = [attributes(), attributes(id="17", path="/a?token=secret"), attributes()]

    await sink.export_like_envoy(an_export(*entries))

    await rows_are(database, 2)
    await metric_is(sink, 'hubgate_usage_records_total{result="quarantined"} 1.0')
    (kept,) = await database.fetch("SELECT reason, attributes FROM usage_quarantine")
    assert kept["reason"] == "id is not a UUID"
    assert "secret" not in kept["attributes"]


async def test_bytes_that_are_no_message_are_put_aside_and_hold_up_nothing(
    sink: Sink, database: asyncpg.Connection
) -> None:
    await sink.raw_export(b"\xff\xff\xff")
    await sink.export_like_envoy(an_export(attributes()))

    await rows_are(database, 1)
    await metric_is(sink, 'hubgate_usage_records_total{result="quarantined"} 1.0')
    (kept,) = await database.fetch("SELECT reason, attributes FROM usage_quarantine")
    assert kept["reason"] == "payload can't be read: DecodeError"
    assert '"bytes": "3"' in kept["attributes"]


async def test_an_als_stream_is_written_under_its_node(
    sink: Sink, database: asyncpg.Connection
) -> None:
    first, second = attributes(), an_ai_call()

    await sink.stream(iter([a_message(first, node="node-7"), a_message(second)]))

    await rows_are(database, 2)
    rows = await database.fetch("SELECT node FROM usage_logs")
    assert [row["node"] for row in rows] == ["node-7", "node-7"]


async def test_an_als_stream_is_ended_by_a_sink_that_stops(
    sink: Sink, database: asyncpg.Connection
) -> None:
    await sink.export_like_envoy(an_export(attributes()))  # the ledger is open
    call = sink.stream()
    await call.write(a_message(attributes(), node="node-1"))
    await rows_are(database, 2)

    sink.stop.set()

    async with asyncio.timeout(5):
        assert await call == als_pb2.StreamAccessLogsResponse()


async def test_health_names_its_components(
    sink: Sink, database: asyncpg.Connection
) -> None:
    await sink.export_like_envoy(an_export(attributes()))
    await rows_are(database, 1)

    assert await sink.health() == {
        "status": "ok",
        "components": {"database": "ok", "spool": "ok"},
    }
    await metric_is(sink, 'hubgate_usage_records_total{result="new"} 1.0')


class TestPrices:
    async def test_without_a_first_book_ai_calls_wait_in_the_spool(
        self, tmp_path: Path, fresh_database_url: str, database: asyncpg.Connection
    ) -> None:
        wait = {"HUBGATE_USAGE_SINK_PRICES_WAIT_S": "3600"}
        async with a_sink(tmp_path, fresh_database_url, NO_REDIS, **wait) as sink:
            await sink.export_like_envoy(an_export(attributes()))
            await sink.export(an_export(an_ai_call()))  # answered all the same
            await rows_are(database, 1)

        async with a_sink(tmp_path, fresh_database_url, NO_REDIS):
            await rows_are(database, 2)

    async def test_after_the_wait_ai_calls_are_unpriced_and_counted(
        self, tmp_path: Path, fresh_database_url: str, database: asyncpg.Connection
    ) -> None:
        async with a_sink(tmp_path, fresh_database_url, NO_REDIS) as sink:
            await sink.export_like_envoy(an_export(an_ai_call()))

            await rows_are(database, 1)
            await metric_is(sink, "hubgate_usage_unpriced_total 1.0")
        assert await database.fetchval("SELECT pricing FROM usage_logs") == "unpriced"

    async def test_a_start_without_redis_prices_as_before(
        self,
        tmp_path: Path,
        fresh_database_url: str,
        database: asyncpg.Connection,
        redis_url: str,
        redis_client: Redis,
    ) -> None:
        await config_channel.publish(redis_client, "usage_sink", PRICES)
        wait = {"HUBGATE_USAGE_SINK_PRICES_WAIT_S": "30"}
        async with a_sink(tmp_path, fresh_database_url, redis_url, **wait) as sink:
            await sink.export_like_envoy(an_export(an_ai_call()))
            await rows_are(database, 1)

        async with a_sink(tmp_path, fresh_database_url, NO_REDIS) as sink:
            await sink.export_like_envoy(an_export(an_ai_call()))
            await rows_are(database, 2)

        versions = await database.fetch("SELECT price_version FROM usage_logs")
        assert [row[0] for row in versions] == ["v1", "v1"]

    async def test_a_new_book_is_in_force_without_a_restart(
        self, sink: Sink, database: asyncpg.Connection, redis_client: Redis
    ) -> None:
        await sink.export_like_envoy(an_export(an_ai_call()))
        await rows_are(database, 1)
        await config_channel.publish(
            redis_client, "usage_sink", {**PRICES, "version": "v2"}
        )

        async def is_charged_by_the_new_book() -> bool:
            await sink.export_like_envoy(an_export(an_ai_call()))
            versions = await database.fetch("SELECT price_version FROM usage_logs")
            return "v2" in {row[0] for row in versions}

        await until(is_charged_by_the_new_book)


class TestDatabaseAway:
    """The database is there but lets nobody in, then does again."""

    async def test_at_the_start_exports_are_taken_and_written_when_it_is_there(
        self, tmp_path: Path, fresh_database_url: str, admin: asyncpg.Connection
    ) -> None:
        await close_door(admin, fresh_database_url)
        async with a_sink(tmp_path, fresh_database_url, NO_REDIS) as sink:
            await sink.export(an_export(attributes()))
            components = (await sink.health())["components"]
            assert components["spool"] == "ok"
            assert components["database"] != "ok"

            await open_door(admin, fresh_database_url)
            await rows_are_at(fresh_database_url, 1)

            assert (await sink.health())["status"] == "ok"

    async def test_later_nothing_is_refused_lost_or_doubled(
        self, tmp_path: Path, fresh_database_url: str, admin: asyncpg.Connection
    ) -> None:
        entries = [attributes() for _ in range(20)]
        streamed = [attributes() for _ in range(3)]
        async with a_sink(tmp_path, fresh_database_url, NO_REDIS) as sink:
            await sink.export(an_export(*entries[:10]))
            await rows_are_at(fresh_database_url, 10)
            await close_door(admin, fresh_database_url)
            await sink.export(an_export(*entries))
            await sink.stream(iter([a_message(*streamed, node="node-1")]))
            await until(sink.has_failed_to_write)

            await open_door(admin, fresh_database_url)
            database = await asyncpg.connect(fresh_database_url)
            await rows_are(database, 23)

        assert sorted(await ids(database)) == sorted(ids_of([*entries, *streamed]))
        await database.close()

    async def test_a_stop_does_not_wait_for_it_and_the_next_start_loads(
        self, tmp_path: Path, fresh_database_url: str, admin: asyncpg.Connection
    ) -> None:
        entry = attributes()
        async with a_sink(tmp_path, fresh_database_url, NO_REDIS) as sink:
            await sink.export(an_export(attributes()))
            await rows_are_at(fresh_database_url, 1)
            await close_door(admin, fresh_database_url)
            await sink.export(an_export(entry))
            await until(sink.has_failed_to_write)
        await open_door(admin, fresh_database_url)

        async with a_sink(tmp_path, fresh_database_url, NO_REDIS):
            database = await asyncpg.connect(fresh_database_url)
            await rows_are(database, 2)
            assert entry["id"] in await ids(database)
            await database.close()

    @pytest.fixture
    async def admin(self, database_url: str) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(database_url)
        yield connection
        await connection.close()


class TestProcess:
    """`python -m usage_sink`."""

    async def test_it_stops_cleanly_on_a_signal(
        self, tmp_path: Path, fresh_database_url: str, redis_url: str
    ) -> None:
        address = f"unix:{tmp_path}/sink.sock"
        process = await start_process(
            HUBGATE_USAGE_SINK_LISTEN=address,
            HUBGATE_USAGE_SINK_SPOOL_DIR=str(tmp_path / "spool"),
            HUBGATE_DATABASE_URL=fresh_database_url,
            HUBGATE_REDIS_URL=redis_url,
        )
        async with asyncio.timeout(20), grpc.aio.insecure_channel(address) as channel:
            await channel.channel_ready()

        process.terminate()

        async with asyncio.timeout(20):
            _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()

    async def test_bad_settings_are_named_all_at_once(self) -> None:
        process = await start_process(HUBGATE_REDIS_URL="http://x")

        _, errors = await process.communicate()

        assert process.returncode == 2
        for name in ("LISTEN", "SPOOL_DIR", "DATABASE_URL", "REDIS_URL"):
            assert f"{name}: " in errors.decode()


async def metric_is(sink: Sink, line: str) -> None:
    async def is_there() -> bool:
        return line in await sink.metrics()

    await until(is_there)


async def start_process(**environ: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "usage_sink"),
        env=environ,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_a_database_killed_under_load_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "postgres"
    sent: list[dict[str, str]] = []
    is_enough = asyncio.Event()

    async with (
        running_postgres(folder) as url,
        a_sink(tmp_path, url, NO_REDIS) as sink,
    ):

        async def send() -> None:
            while not is_enough.is_set():
                entries = [attributes() for _ in range(3)]
                await sink.export(an_export(*entries))
                sent.extend(entries)

        async def is_noticed() -> bool:
            """Killed again when it is back before anything was to be written."""
            if await is_answering(url):
                pid_file = (folder / "data" / "postmaster.pid").read_text()
                os.kill(int(pid_file.split()[0]), signal.SIGKILL)
            return bool(await sink.has_failed_to_write())

        await sink.export(an_export(attributes()))
        await rows_are_at(url, 1)
        sending = [asyncio.create_task(send()) for _ in range(2)]
        await until(is_noticed)
        is_enough.set()
        await asyncio.gather(*sending)
        await until(lambda: is_answering(url))
        await rows_are_at(url, len(sent) + 1)

        database = await asyncpg.connect(url)
        written = await ids(database)
        await database.close()
    assert set(ids_of(sent)) < set(written)


async def is_answering(url: str) -> bool:
    try:
        database = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError):
        return False
    await database.close()
    return True


async def close_door(admin: asyncpg.Connection, url: str) -> None:
    name = url.rpartition("/")[2]
    await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
        name,
    )


async def open_door(admin: asyncpg.Connection, url: str) -> None:
    name = url.rpartition("/")[2]
    await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
