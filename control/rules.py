"""Hands the sidecars their rules; what Redis could not take is sent when it is back."""

import asyncio

from redis.asyncio import Redis

from control.documents import Document, prices_document, ratelimit_document
from control.model import GatewayConfig
from runtime.config_channel import publish
from runtime.lifecycle import wait_or_stop
from runtime.logs import get_logger
from runtime.redis import RedisUnavailable

log = get_logger(__name__)

RETRY_INTERVAL_S = 1.0
#: Redis may have been emptied: what it should hold is said again now and then.
REPEAT_INTERVAL_S = 30.0


class RulesPublisher:
    """Publishes the newest rules; never fails a change because Redis is away."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._documents: dict[str, Document] = {}
        self.is_behind = False

    async def publish(self, config: GatewayConfig) -> None:
        """Send now, or as soon as Redis answers."""
        self._documents = {
            "ratelimit": ratelimit_document(config),
            "usage_sink": prices_document(config),
        }
        await self._send()

    async def run(self, stop: asyncio.Event) -> None:
        """Repeat until `stop`."""
        while True:
            pause = RETRY_INTERVAL_S if self.is_behind else REPEAT_INTERVAL_S
            if await wait_or_stop(stop, pause):
                return
            await self._send()

    async def _send(self) -> None:
        try:
            for service, document in self._documents.items():
                await publish(self._client, service, document)
        except RedisUnavailable as error:
            if not self.is_behind:
                log.warning("rules not published; will try again", error=str(error))
            self.is_behind = True
        else:
            self.is_behind = False
