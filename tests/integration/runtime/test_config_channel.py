"""Rules reach a sidecar at once, and the last good ones stay."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from local.engines import running_valkey
from runtime import config_channel
from runtime import redis as runtime_redis
from runtime.config_channel import Document
from runtime.redis import RedisUnavailable

DEADLINE_S = 10.0


class Sidecar:
    """Takes documents that have a number."""

    def __init__(self) -> None:
        self.documents: asyncio.Queue[Document] = asyncio.Queue()
        self.refused: asyncio.Queue[Document] = asyncio.Queue()

    def use(self, document: Document) -> None:
        try:
            number = document["n"]
        except (KeyError, TypeError):
            self.refused.put_nowait(document)
            raise
        self.documents.put_nowait({"n": number})

    async def next(self) -> Document:
        async with asyncio.timeout(DEADLINE_S):
            return await self.documents.get()


@asynccontextmanager
async def watching(client: Redis, sidecar: Sidecar) -> AsyncIterator[None]:
    stop = asyncio.Event()
    watch = config_channel.watch(client, "ratelimit", sidecar.use, stop)
    task = asyncio.create_task(watch)
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(DEADLINE_S):
            await task


async def test_a_document_stored_before_the_start_is_found(redis_client: Redis) -> None:
    sidecar = Sidecar()
    await config_channel.publish(redis_client, "ratelimit", {"n": 1})
    async with watching(redis_client, sidecar):
        assert await sidecar.next() == {"n": 1}


@pytest.mark.alone
async def test_an_announced_document_arrives_within_a_second(
    redis_client: Redis,
) -> None:
    sidecar = Sidecar()
    await config_channel.publish(redis_client, "ratelimit", {"n": 1})
    async with watching(redis_client, sidecar):
        await sidecar.next()
        await config_channel.publish(redis_client, "other", {"n": 9})
        await config_channel.publish(redis_client, "ratelimit", {"n": 2})
        async with asyncio.timeout(1):
            assert await sidecar.documents.get() == {"n": 2}


@pytest.mark.parametrize("text", ['{"bad": 1}', "[]", "null", "5"])
async def test_a_refused_document_does_not_end_the_watching(
    redis_client: Redis, text: str
) -> None:
    sidecar = Sidecar()
    await redis_client.set("cfg:ratelimit", text)
    async with watching(redis_client, sidecar):
        async with asyncio.timeout(DEADLINE_S):
            await sidecar.refused.get()
        await config_channel.publish(redis_client, "ratelimit", {"n": 3})
        assert await sidecar.next() == {"n": 3}


async def test_what_is_not_json_is_refused(redis_client: Redis) -> None:
    sidecar = Sidecar()
    await redis_client.set("cfg:ratelimit", "not json")
    async with watching(redis_client, sidecar):
        await config_channel.publish(redis_client, "ratelimit", {"n": 4})
        assert await sidecar.next() == {"n": 4}


async def test_a_watcher_outlives_an_absent_redis(tmp_path: Path) -> None:
    sidecar = Sidecar()
    async with running_valkey(tmp_path) as url:
        client = runtime_redis.connect(url, timeout_s=0.5)
        watcher = asyncio.create_task(
            config_channel.watch(client, "ratelimit", sidecar.use, asyncio.Event())
        )
        await config_channel.publish(client, "ratelimit", {"n": 1})
        first = await sidecar.next()
    with pytest.raises(RedisUnavailable):
        await config_channel.publish(client, "ratelimit", {"n": 2})
    still_watching = not watcher.done()
    watcher.cancel()
    await asyncio.gather(watcher, return_exceptions=True)
    await client.aclose()

    assert first == {"n": 1}
    assert still_watching
