"""Composition root of `authz`: settings -> adapters -> service -> serve."""

import asyncio
import os

from authz.compose import compose
from authz.settings import Settings
from runtime import lifecycle, logs, redis
from runtime.grpc_server import GrpcServer
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.ops_server import OpsServer


async def main(stop: asyncio.Event) -> None:
    settings = Settings.from_environ(os.environ)
    logs.configure("authz", settings)
    metrics, health = Metrics("authz"), Health()
    client = redis.connect(settings.redis_url, timeout_s=settings.redis_timeout_s)
    health.add("redis", lambda: redis.ping(client))
    authz = compose(settings, client, metrics)
    server = GrpcServer(
        settings.authz_listen, authz.methods, metrics, settings.grpc_transport
    )
    ops = OpsServer(settings.ops_listen, health, metrics)
    background = asyncio.gather(*(run(stop) for run in authz.background))
    await server.start()
    await ops.start()
    lifecycle.collect_seldom()
    await stop.wait()
    await server.stop(settings.drain_timeout_s)
    await ops.stop()
    authz.close()
    await background
    await client.aclose()


if __name__ == "__main__":
    lifecycle.run(main)
