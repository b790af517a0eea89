"""`python -m usage_sink`: settings -> adapters -> service -> serve -> drain."""

import asyncio
from contextlib import AsyncExitStack, suppress
from importlib.metadata import version

from runtime import config_channel, lifecycle, logs, redis
from runtime.clock import SystemClock
from runtime.grpc_server import GrpcServer
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.ops_server import HttpServer, ops_app
from usage_sink.ledger import Ledger
from usage_sink.pricing import PricesInForce
from usage_sink.service import Intake, UsageSinkService
from usage_sink.settings import Settings, load
from usage_sink.writer import LedgerWriter


async def main(stop: asyncio.Event) -> None:
    settings = load()
    logs.configure("usage_sink", settings)
    await serve(settings, stop)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop`, then write what has been taken in."""
    metrics, clock, health = Metrics(), SystemClock(), Health()
    writer = LedgerWriter(settings.limits(), clock, metrics)
    ledger = Ledger(settings, clock, writer)
    prices = PricesInForce(clock, settings.usage_sink_prices_wait_s)
    intake = Intake(prices, metrics, region=settings.region, version=version("hubgate"))
    service = UsageSinkService(intake, writer, metrics, stop)
    health.add("database", ledger.check)
    health.add("writer", writer.check)
    server = GrpcServer(settings.usage_sink_listen, service.methods(), metrics)
    client = redis.connect(settings.redis_url, timeout_s=settings.redis_timeout_s)
    async with AsyncExitStack() as closing:
        closing.push_async_callback(client.aclose)
        if settings.ops_listen is not None:
            ops = HttpServer(
                ops_app(health, metrics), settings.ops_listen, settings.drain_timeout_s
            )
            await ops.start()
            closing.push_async_callback(ops.stop)
        writing = asyncio.create_task(ledger.run(stop))
        pricing = asyncio.create_task(
            config_channel.watch(client, "usage_sink", prices.accept, stop)
        )
        stopping = asyncio.create_task(stop.wait())
        await server.start()
        # Neither task ends before `stop` but by a fault, which ends the process.
        await asyncio.wait({stopping, writing, pricing}, return_when="FIRST_COMPLETED")
        stop.set()
        await server.stop(settings.drain_timeout_s)
        writer.close()
        # What the deadline cuts off, the writer counts; its senders were told.
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_timeout_s):
                await asyncio.gather(writing, pricing)


if __name__ == "__main__":
    lifecycle.run(main)
