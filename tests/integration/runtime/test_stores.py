"""Redis and PostgreSQL: deadlines, one error each, scripts that survive."""

import asyncpg
import pytest
from redis.asyncio import Redis

from runtime import postgres
from runtime import redis as runtime_redis
from runtime.clock import SystemClock
from runtime.postgres import DatabaseRejected, DatabaseUnavailable
from runtime.redis import RedisUnavailable, Script


async def test_a_script_is_loaded_once_and_again_after_a_flush(
    redis_client: Redis,
) -> None:
    script = Script("return tonumber(ARGV[1]) + 1")

    assert await script.run(redis_client, [], [1]) == 2
    await redis_client.script_flush()
    assert await script.run(redis_client, [], [2]) == 3


async def test_a_failing_script_is_an_error_of_ours(redis_client: Redis) -> None:
    with pytest.raises(RedisUnavailable):
        await Script("return redis.call('NOPE')").run(redis_client, [], [])


async def test_an_absent_redis_is_noticed_within_its_deadline() -> None:
    client = runtime_redis.connect("redis://127.0.0.1:1/0", timeout_s=0.2)
    started = SystemClock().monotonic()
    with pytest.raises(RedisUnavailable):
        await runtime_redis.ping(client)
    await client.aclose()

    assert SystemClock().monotonic() - started < 2


async def test_redis_answers_a_ping(redis_client: Redis) -> None:
    await runtime_redis.ping(redis_client)


async def pool(dsn: str) -> asyncpg.Pool:
    return await postgres.connect_pool(
        dsn, max_size=1, command_timeout_s=5, connect_deadline_s=5
    )


async def test_a_pool_answers_and_says_what_data_it_refuses(database_url: str) -> None:
    connections = await pool(database_url)
    await postgres.ping(connections)
    with pytest.raises(DatabaseRejected), postgres.wrap_errors():
        await connections.fetchval("SELECT 1 / 0")
    with pytest.raises(DatabaseUnavailable), postgres.wrap_errors():
        await connections.fetchval("SELECT * FROM no_such_table")
    await connections.close()


async def test_an_absent_database_is_given_up_at_the_deadline() -> None:
    with pytest.raises(DatabaseUnavailable):
        await postgres.connect_pool(
            "postgresql://a@127.0.0.1:1/b",
            max_size=1,
            command_timeout_s=0.2,
            connect_deadline_s=0.3,
        )
