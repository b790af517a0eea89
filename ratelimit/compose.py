"""Builds what counts, of settings and what the process shares between its parts."""

import asyncio
from dataclasses import dataclass

from redis.asyncio import Redis

from ratelimit.limiter import Limiter
from ratelimit.service import RateLimitService
from ratelimit.settings import RatelimitSettings
from ratelimit.store import MemoryCounterStore
from ratelimit.store_redis import RedisCounterStore
from runtime import config_channel
from runtime.clock import SystemClock
from runtime.grpc_server import Unary
from runtime.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Ratelimit:
    """The core, and what a process that has it must do for it."""

    limiter: Limiter
    counters: RedisCounterStore
    client: Redis

    def methods(self) -> list[Unary]:
        return RateLimitService(self.limiter).methods()

    async def follow_rules(self, stop: asyncio.Event) -> None:
        """Put in force what `control` publishes, until `stop`."""
        await config_channel.watch(self.client, "ratelimit", self.limiter.use, stop)

    async def warm_up(self) -> None:
        """Before the first request."""
        await self.counters.warm_up()

    async def aclose(self) -> None:
        await self.counters.aclose()


def compose(settings: RatelimitSettings, client: Redis, metrics: Metrics) -> Ratelimit:
    counters = RedisCounterStore(client, metrics)
    limiter = Limiter(
        store=counters,
        fallback=MemoryCounterStore(SystemClock()),
        on_redis_down=settings.ratelimit_on_redis_down,
        metrics=metrics,
    )
    return Ratelimit(limiter, counters, client)
