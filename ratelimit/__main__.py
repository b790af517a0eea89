"""Composition root of `ratelimit`: settings -> adapters -> service -> serve."""

import asyncio
import os

from ratelimit.compose import compose
from ratelimit.settings import Settings
from runtime import lifecycle, logs, redis
from runtime.grpc_server import GrpcServer
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.ops_server import OpsServer


async def main(stop: asyncio.Event) -> None:
    settings = Settings.from_environ(os.environ)
    logs.configure("ratelimit", settings)
    metrics, health = Metrics("ratelimit"), Health()
    client = redis.connect(settings.redis_url, timeout_s=settings.redis_timeout_s)
    health.add("redis", lambda: redis.ping(client))
    ratelimit = compose(settings, client, metrics)
    server = GrpcServer(
        settings.ratelimit_listen, ratelimit.methods(), metrics, settings.grpc_transport
    )
    ops = OpsServer(settings.ops_listen, health, metrics)
    rules = asyncio.create_task(ratelimit.follow_rules(stop))
    await ratelimit.warm_up()
    await server.start()
    await ops.start()
    lifecycle.collect_seldom()
    await stop.wait()
    await server.stop(settings.drain_timeout_s)
    await ops.stop()
    await rules
    await ratelimit.aclose()
    await client.aclose()


if __name__ == "__main__":
    lifecycle.run(main)
