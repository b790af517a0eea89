"""Composition root of `ratelimit`: settings -> adapters -> service -> serve."""

import asyncio
import os

from ratelimit.limiter import Limiter
from ratelimit.service import RateLimitService
from ratelimit.settings import Settings
from ratelimit.store import MemoryCounterStore
from ratelimit.store_redis import RedisCounterStore
from runtime import config_channel, lifecycle, logs, redis
from runtime.clock import SystemClock
from runtime.grpc_server import GrpcServer
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.ops_server import OpsServer


async def main(stop: asyncio.Event) -> None:
    settings = Settings.from_environ(os.environ)
    logs.configure("ratelimit", settings)
    metrics, health = Metrics(), Health()
    client = redis.connect(settings.redis_url, timeout_s=settings.redis_timeout_s)
    health.add("redis", lambda: redis.ping(client))
    counters = RedisCounterStore(client, metrics)
    limiter = Limiter(
        store=counters,
        fallback=MemoryCounterStore(SystemClock()),
        on_redis_down=settings.ratelimit_on_redis_down,
        metrics=metrics,
    )
    service = RateLimitService(limiter, metrics)
    server = GrpcServer(
        settings.ratelimit_listen, service.methods(), metrics, settings.grpc_transport
    )
    ops = OpsServer(settings.ops_listen, health, metrics)
    rules = asyncio.create_task(
        config_channel.watch(client, "ratelimit", limiter.use, stop)
    )
    await counters.warm_up()
    await server.start()
    await ops.start()
    await stop.wait()
    await server.stop(settings.drain_timeout_s)
    await ops.stop()
    await rules
    await counters.aclose()
    await client.aclose()


if __name__ == "__main__":
    lifecycle.run(main)
