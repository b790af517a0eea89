"""`python -m control`: settings -> adapters -> configuration -> serve -> drain."""

import asyncio
from contextlib import AsyncExitStack

from control.api import create_app
from control.compose import build
from control.settings import Settings, load
from runtime import lifecycle, logs
from runtime.grpc_server import GrpcServer
from runtime.metrics import Metrics
from runtime.ops_server import HttpServer


async def main(stop: asyncio.Event) -> None:
    settings = load()
    logs.configure("control", settings)
    await serve(settings, stop)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop`.

    HTTP is there at once; Envoy is served as soon as the configuration in force is
    known, never before: an Envoy that runs has a better one than none.
    """
    metrics = Metrics("control")
    control = build(settings, metrics)
    lifecycle.collect_seldom()
    http = HttpServer(
        create_app(control.deps), settings.control_listen, settings.drain_timeout_s
    )
    ads = GrpcServer(
        settings.ads_listen,
        control.discovery.methods(),
        metrics,
        settings.grpc_transport,
    )
    async with AsyncExitStack() as closing:
        closing.push_async_callback(control.close)
        await http.start()
        closing.push_async_callback(http.stop)
        repeating = [
            asyncio.create_task(one.run(stop)) for one in (control.rules, control.keys)
        ]
        try:
            if await control.start(stop):
                await ads.start()
                closing.push_async_callback(ads.stop, settings.drain_timeout_s)
                repeating += [
                    asyncio.create_task(one.run(stop))
                    for one in (control.following, control.alerting)
                ]
                await stop.wait()
        finally:
            stop.set()
            control.discovery.stop()
            await asyncio.gather(*repeating)


if __name__ == "__main__":
    lifecycle.run(main)
