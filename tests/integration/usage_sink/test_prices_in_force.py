"""Which price book is in force, over restarts and without Redis."""

from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from runtime import config_channel
from tests.integration.usage_sink.sink_bench import (
    NO_REDIS,
    PRICES,
    Sink,
    a_sink,
    an_ai_call,
    an_export,
    attributes,
    metric_is,
    rows_are,
    until,
)

pytestmark = pytest.mark.integration


async def test_without_a_first_book_ai_calls_wait_in_the_spool(
    tmp_path: Path, fresh_database_url: str, database: asyncpg.Connection
) -> None:
    wait = {"HUBGATE_USAGE_SINK_PRICES_WAIT_S": "3600"}
    async with a_sink(tmp_path, fresh_database_url, NO_REDIS, **wait) as sink:
        await sink.export_like_envoy(an_export(attributes()))
        await sink.export(an_export(an_ai_call()))  # answered all the same
        await rows_are(database, 1)

    async with a_sink(tmp_path, fresh_database_url, NO_REDIS):
        await rows_are(database, 2)


async def test_after_the_wait_ai_calls_are_unpriced_and_counted(
    tmp_path: Path, fresh_database_url: str, database: asyncpg.Connection
) -> None:
    async with a_sink(tmp_path, fresh_database_url, NO_REDIS) as sink:
        await sink.export_like_envoy(an_export(an_ai_call()))

        await rows_are(database, 1)
        await metric_is(sink, "hubgate_usage_unpriced_total 1.0")
    assert await database.fetchval("SELECT pricing FROM usage_logs") == "unpriced"


async def test_a_start_without_redis_prices_as_before(
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
    sink: Sink, database: asyncpg.Connection, redis_client: Redis
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
