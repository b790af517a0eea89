"""Counters in Redis: one script, one round trip, Redis' own clock."""

from collections.abc import Sequence
from pathlib import Path

from redis.asyncio import Redis

from ratelimit.store import Charge, CounterUnavailable, Outcome
from ratelimit.window import SUB_WINDOWS, Count
from runtime.redis import RedisUnavailable, Script

_SCRIPT = Path(__file__).with_name("sliding_window.lua")


class RedisCounterStore:
    """Shared by every `ratelimit` process of an installation."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._script = Script(_SCRIPT.read_text("utf-8"))

    async def charge(self, charges: Sequence[Charge]) -> Outcome:
        arguments: list[int] = [SUB_WINDOWS]
        for one in charges:
            arguments += (one.limit, one.window_ms, one.hits)
        try:
            admitted, *numbers = await self._script.run(
                self._client, [one.key for one in charges], arguments
            )
        except RedisUnavailable as error:
            raise CounterUnavailable(str(error)) from error
        counts = zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True)
        return Outcome(bool(admitted), tuple(Count(*count) for count in counts))
