"""Composition root of `authz`: settings -> adapters -> service -> serve."""

import asyncio
import os
import sys

from authz.audit import Audit
from authz.authorizer import Authorizer
from authz.service import AuthzService
from authz.session_service import SessionService
from authz.sessions import Sessions
from authz.settings import Settings
from runtime import lifecycle, logs, redis
from runtime.clock import SystemClock
from runtime.grpc_server import GrpcServer, Method
from runtime.health import Health
from runtime.identity.blacklist_tracked import TrackedBlacklist
from runtime.identity.verdicts import Verdicts
from runtime.identity.verifier import Verifier
from runtime.metrics import Metrics
from runtime.ops_server import OpsServer


async def main(stop: asyncio.Event) -> None:
    settings = Settings.from_environ(os.environ)
    logs.configure("authz", settings)
    metrics, health, clock = Metrics(), Health(), SystemClock()
    client = redis.connect(settings.redis_url, timeout_s=settings.redis_timeout_s)
    health.add("redis", lambda: redis.ping(client))
    verdicts = Verdicts(clock, stale_s=settings.authz_stale_s)
    blacklist = TrackedBlacklist(client, verdicts, clock, metrics)
    keys = settings.key_source(clock, metrics)
    verifier = Verifier(keys, settings.checks(), clock)
    authorizer = Authorizer(
        verifier=verifier,
        blacklist=blacklist,
        on_redis_down=settings.authz_on_redis_down,
        metrics=metrics,
        allow_expired_s=settings.authz_allow_expired_s,
    )
    stamp = {"service": "authz", "node": settings.node_id}
    audit = Audit(stamp, clock, sys.stderr.write, settings.authz_audit)
    journal = settings.journal(clock, metrics)
    service = AuthzService(authorizer, metrics, audit, journal)
    sessions = Sessions(blacklist, clock, metrics, settings.jwt_leeway_s)
    methods: list[Method] = [*service.methods(), *SessionService(sessions).methods()]
    server = GrpcServer(
        settings.authz_listen, methods, metrics, settings.grpc_transport
    )
    ops = OpsServer(settings.ops_listen, health, metrics)
    background = [
        asyncio.create_task(one.run(stop)) for one in (blacklist, keys, sessions)
    ]
    await server.start()
    await ops.start()
    await stop.wait()
    await server.stop(settings.drain_timeout_s)
    await ops.stop()
    audit.flush()
    if journal is not None:
        journal.close()
    await asyncio.gather(*background)
    await client.aclose()


if __name__ == "__main__":
    lifecycle.run(main)
