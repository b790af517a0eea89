"""`python -m usage_sink`: settings -> adapters -> service -> serve -> drain."""

import asyncio
from contextlib import AsyncExitStack, suppress
from importlib.metadata import version

import uvloop

from runtime import config_channel, lifecycle, logs, redis
from runtime.clock import Clock, SystemClock
from runtime.grpc_server import GrpcServer
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.ops_server import OpsServer
from runtime.settings import SettingsError
from usage_sink import journal, lines, reports
from usage_sink.chain import Chain
from usage_sink.errors import SpoolInUse
from usage_sink.evidence import Evidence, Place
from usage_sink.heads import KEPT_HEADS, Heads
from usage_sink.ingest import REPORTS_NODE, UsageIngestService
from usage_sink.intake import Intake, from_entries, from_events
from usage_sink.ledger import Ledger
from usage_sink.loader import Loader
from usage_sink.pricing import KEPT_BOOK, PricesInForce
from usage_sink.segments import Kind
from usage_sink.service import UsageSinkService
from usage_sink.settings import Settings, load
from usage_sink.spool import Spool


async def main(stop: asyncio.Event) -> None:
    lifecycle.collect_seldom()
    settings = load()
    logs.configure("usage_sink", settings)
    await serve(settings, stop)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop`, then load what has been taken in.

    Raises:
        SettingsError: the spool can't be used.
    """
    metrics, clock, health = Metrics("usage_sink"), SystemClock(), Health()
    folder = settings.usage_sink_spool_dir
    client = redis.connect(settings.redis_url, timeout_s=settings.redis_timeout_s)
    async with AsyncExitStack() as closing:
        closing.push_async_callback(client.aclose)
        spool = await open_spool(settings, clock, metrics)
        closing.push_async_callback(spool.close)
        prices = PricesInForce(
            clock, settings.usage_sink_prices_wait_s, folder / KEPT_BOOK
        )
        intake = Intake(
            prices,
            region=settings.region,
            version=version("hubgate"),
            sources={
                Kind.LINES: from_entries(lines.entries),
                Kind.REPORT: from_events(reports.read, REPORTS_NODE),
                Kind.UNSETTLED: journal.unsettled,
            },
        )
        evidence = Evidence(
            settings, Place(settings.node_id, folder), spool, clock, metrics
        )
        loader = Loader(
            spool,
            intake,
            settings.batch_limits(),
            clock,
            metrics,
            observers=(evidence.committed,),
        )
        chain = Chain(spool.identity, settings.node_id, Heads(folder / KEPT_HEADS))
        ledger = Ledger(settings, clock, loader, chain)
        server = GrpcServer(
            settings.usage_sink_listen,
            UsageSinkService(spool, metrics, stop).methods(),
            metrics,
            settings.grpc_transport,
        )
        health.add("database", ledger.check)
        health.add("spool", spool.check)
        await start_ops(settings, health, metrics, closing)
        loading = asyncio.create_task(ledger.run(stop))
        pricing = asyncio.create_task(
            config_channel.watch(client, "usage_sink", prices.accept, stop)
        )
        looking = asyncio.create_task(evidence.run(stop))
        await server.start()
        await start_ingest(settings, spool, metrics, closing)
        await until_stopped(stop, loading, pricing, looking)
        await server.stop(settings.drain_timeout_s)
        loader.close()
        # What the deadline cuts off is in the spool for the next start.
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_timeout_s):
                await asyncio.gather(loading, pricing, looking)
        await evidence.close()


async def until_stopped(stop: asyncio.Event, *tasks: asyncio.Task[None]) -> None:
    """No task ends before `stop` but by a fault, which ends the process."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, *tasks}, return_when="FIRST_COMPLETED")
    stop.set()


async def start_ops(
    settings: Settings, health: Health, metrics: Metrics, closing: AsyncExitStack
) -> None:
    """Health and metrics, where there is an address for them."""
    ops = OpsServer(settings.ops_listen, health, metrics)
    await ops.start()
    closing.push_async_callback(ops.stop)


async def start_ingest(
    settings: Settings, spool: Spool, metrics: Metrics, closing: AsyncExitStack
) -> None:
    """The listener of trusted services: apart from Envoy's, which asks no secret."""
    address, file = settings.usage_ingest_listen, settings.usage_ingest_token_file
    if address is None:
        return
    token = None if file is None else await asyncio.to_thread(file.text)
    service = UsageIngestService(spool, SystemClock(), metrics, token)
    server = GrpcServer(address, service.methods(), metrics, settings.grpc_transport)
    await server.start()
    closing.push_async_callback(server.stop, settings.drain_timeout_s)


async def open_spool(settings: Settings, clock: Clock, metrics: Metrics) -> Spool:
    """The spool of these settings.

    Raises:
        SettingsError: another process has it, or the folder can't be used.
    """
    folder = settings.usage_sink_spool_dir
    try:
        return await asyncio.to_thread(Spool, folder, settings.bounds(), clock, metrics)
    except (SpoolInUse, OSError) as error:
        raise SettingsError([f"HUBGATE_USAGE_SINK_SPOOL_DIR: {error}"]) from error


if __name__ == "__main__":
    # It moves more bytes than any other service, and starts no processes.
    lifecycle.run(main, uvloop.new_event_loop)
