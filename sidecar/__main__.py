"""Composition root of both services in one process."""

import asyncio
import os

import uvloop

import authz.compose
import ratelimit.compose
from runtime import lifecycle, logs, redis
from runtime.grpc_server import GrpcServer, Method
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.ops_server import OpsServer
from sidecar.limits import Limits
from sidecar.settings import Settings


async def main(stop: asyncio.Event) -> None:
    settings = Settings.from_environ(os.environ)
    logs.configure("sidecar", settings)
    metrics, health = Metrics("authz", "ratelimit"), Health()
    client = redis.connect(settings.redis_url, timeout_s=settings.redis_timeout_s)
    health.add("redis", lambda: redis.ping(client))
    counting = ratelimit.compose.compose(settings, client, metrics)
    limits = Limits(counting.limiter)
    deciding = authz.compose.compose(settings, client, metrics, limits)
    methods: list[Method] = [*deciding.methods, *counting.methods()]
    server = GrpcServer(
        settings.sidecar_listen, methods, metrics, settings.grpc_transport
    )
    ops = OpsServer(settings.ops_listen, health, metrics)
    runs = (*deciding.background, counting.follow_rules)
    background = asyncio.gather(*(run(stop) for run in runs))
    await counting.warm_up()
    await server.start()
    await ops.start()
    lifecycle.collect_seldom()
    await stop.wait()
    await server.stop(settings.drain_timeout_s)
    await ops.stop()
    deciding.close()
    await background
    await counting.aclose()
    await client.aclose()


if __name__ == "__main__":
    lifecycle.run(main, uvloop.new_event_loop)
