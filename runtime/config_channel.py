"""How `control` tells the sidecars their rules: a Redis key and an announcement.

The document of a service is kept at `cfg:<service>` and its name is published on
`cfg`. A watcher reads at start, at every announcement, and every few seconds besides
(an announcement may be missed); it keeps the last good document when Redis is away.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from runtime.contracts.redis_keys import CONFIG_CHANNEL, config_key
from runtime.logs import get_logger
from runtime.redis import RedisUnavailable, wrap_errors

log = get_logger(__name__)

REREAD_INTERVAL_S = 5.0
RECONNECT_INTERVAL_S = 0.5

Document = dict[str, Any]


async def publish(client: Redis, service: str, document: Document) -> None:
    """Store the document and announce it.

    Raises:
        RedisUnavailable: it may or may not have been stored.
    """
    body = json.dumps(document, separators=(",", ":"), sort_keys=True)
    with wrap_errors():
        await client.set(config_key(service), body)
        await client.publish(CONFIG_CHANNEL, service)


async def watch(
    client: Redis,
    service: str,
    on_document: Callable[[Document], None],
    stop: asyncio.Event,
) -> None:
    """Call `on_document` with every new document until `stop`.

    `on_document` raises for a document it refuses, whatever JSON it is: that is logged
    and the last good one stays in force.
    """
    watcher = _Watcher(client, service, on_document)
    while not stop.is_set():
        try:
            await watcher.follow(stop)
        except RedisUnavailable as error:
            log.warning("rules not reachable; last good ones stay", error=str(error))
            await _pause(stop, RECONNECT_INTERVAL_S)


class _Watcher:
    def __init__(
        self, client: Redis, service: str, on_document: Callable[[Document], None]
    ) -> None:
        self._client = client
        self._service = service
        self._on_document = on_document
        self._seen: bytes | str | None = None

    async def follow(self, stop: asyncio.Event) -> None:
        with wrap_errors():
            async with self._client.pubsub(ignore_subscribe_messages=True) as channel:
                await channel.subscribe(CONFIG_CHANNEL)
                while not stop.is_set():
                    await self._read()
                    await self._announced(channel, stop)

    async def _announced(self, channel: PubSub, stop: asyncio.Event) -> None:
        message = asyncio.create_task(channel.get_message(timeout=REREAD_INTERVAL_S))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({message, stopped}, return_when="FIRST_COMPLETED")
            if message.done():
                message.result()
        finally:
            message.cancel()
            stopped.cancel()
            await asyncio.gather(message, stopped, return_exceptions=True)

    async def _read(self) -> None:
        body = await self._client.get(config_key(self._service))
        if body is None or body == self._seen:
            return
        try:
            self._on_document(json.loads(body))
        except Exception as error:  # noqa: BLE001 - whatever stands there, watching goes on
            log.error("rules refused; last good ones stay", error=repr(error))  # noqa: TRY400 - expected, no traceback
        else:
            log.info("rules in force", service=self._service)
        self._seen = body


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({waiting}, timeout=seconds)
    waiting.cancel()
