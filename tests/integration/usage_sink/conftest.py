"""A running sink that has prices, and its database."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from runtime import config_channel
from tests.integration.usage_sink.sink_bench import PRICES, Sink, a_sink


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
