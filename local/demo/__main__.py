"""`python -m local.demo auth|core|mcp`: one demo service, by environment only."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import FastAPI

from local.demo import auth, core
from local.demo.mcp import app as mcp
from local.demo.revocations_redis import RedisRevocations
from local.demo.serving import serving
from local.demo.settings import AuthSettings, DemoSettings
from local.demo.tokens import Signer
from runtime import lifecycle, logs
from runtime.clock import SystemClock
from runtime.redis import connect


async def _serve(
    name: str, app: FastAPI, settings: DemoSettings, stop: asyncio.Event
) -> None:
    logs.configure(name, settings)
    listen, drain_s = settings.demo_listen, settings.drain_timeout_s
    async with serving(app, listen, drain_timeout_s=drain_s) as address:
        logs.get_logger(__name__).info("serving", address=str(address))
        await stop.wait()


async def run_auth(stop: asyncio.Event) -> None:
    """auth-service."""
    settings = AuthSettings.load()
    redis = connect(settings.redis_url, timeout_s=settings.redis_timeout_s)
    try:
        signer = Signer(
            settings.jwt_secret_file.read(), settings.jwt_issuer, settings.jwt_audience
        )
        deps = auth.AuthDeps(signer, RedisRevocations(redis), SystemClock())
        await _serve("auth-service", auth.create_app(deps), settings, stop)
    finally:
        await redis.aclose()


async def run_core(stop: asyncio.Event) -> None:
    """core-service."""
    app = core.create_app(core.CoreDeps())
    await _serve("core-service", app, DemoSettings.load(), stop)


async def run_mcp(stop: asyncio.Event) -> None:
    """mcp-server."""
    app = mcp.create_app(mcp.McpDeps(clock=SystemClock()))
    await _serve("mcp-server", app, DemoSettings.load(), stop)


SERVICES: Final[dict[str, Callable[[asyncio.Event], Awaitable[None]]]] = {
    "auth": run_auth,
    "core": run_core,
    "mcp": run_mcp,
}


def main(arguments: list[str]) -> None:
    """Run the one service named."""
    if len(arguments) != 1 or arguments[0] not in SERVICES:
        sys.exit(f"usage: python -m local.demo {'|'.join(SERVICES)}")
    lifecycle.run(SERVICES[arguments[0]])


if __name__ == "__main__":
    main(sys.argv[1:])
