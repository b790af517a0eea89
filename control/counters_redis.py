"""Counters of limits in Redis: one script that only reads."""

from collections.abc import Sequence
from pathlib import Path

from redis.asyncio import Redis

from control.counters import Counted, CountersUnavailable, Limit
from runtime.contracts.counters import counter_script
from runtime.contracts.redis_keys import RATE_LIMIT_PARTS
from runtime.redis import RedisUnavailable, Script

_SCRIPT = Path(__file__).with_name("limit_counters.lua")


class RedisCounters:
    """What `ratelimit` counts; a user's own counters are on one server."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._script = Script(counter_script(_SCRIPT))

    async def read(self, limits: Sequence[Limit]) -> Sequence[Counted]:
        if not limits:
            return []
        keys = [one.key for one in limits]
        arguments = [RATE_LIMIT_PARTS, *(one.window_ms for one in limits)]
        try:
            numbers = await self._script.run(self._client, keys, arguments)
        except RedisUnavailable as error:
            raise CountersUnavailable from error
        pairs = zip(numbers[0::2], numbers[1::2], strict=True)
        return [Counted(int(used), int(reset)) for used, reset in pairs]
