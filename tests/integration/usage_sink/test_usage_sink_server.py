"""The whole usage sink over loopback gRPC, with real PostgreSQL and Valkey."""

import asyncio
from pathlib import Path

import asyncpg
import pytest
from envoy.service.accesslog.v3 import als_pb2

from tests.integration.usage_sink.sink_bench import (
    Sink,
    a_message,
    an_ai_call,
    an_export,
    attributes,
    ids,
    ids_of,
    metric_is,
    rows_are,
)
from usage_sink import otlp

pytestmark = pytest.mark.integration


ENVOY_EXPORT = Path(__file__).parent / "envoy_export.bin"


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
