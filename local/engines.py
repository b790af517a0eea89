"""Real Valkey and PostgreSQL for as long as a block runs: for tests and tools."""

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import redis.asyncio

from local import postgres, valkey
from local.child import Spec
from local.console import Console, Style
from local.guard import Guard
from local.ports import free_ports
from local.processes import Supervisor
from local.shares import ANY, Share

_REDIS_TIMEOUT_S = 2.0


def valkey_spec(server: valkey.Server, share: Share = ANY) -> Spec:
    return Spec(
        name="redis",
        kinds=("redis",),
        argv=server.argv(),
        ready=lambda: ping_redis(server.url),
        cwd=server.folder,
        share=share,
    )


def postgres_spec(
    cluster: postgres.Cluster,
    port: int,
    stack: str,
    *,
    durable: bool = True,
    share: Share = ANY,
) -> Spec:
    url = cluster.url(port)
    return Spec(
        name="postgres",
        kinds=("postgres",),
        argv=cluster.argv(port, stack, durable=durable),
        ready=lambda: postgres.ensure_database(url),
        prepare=lambda: postgres.clear_stale_pid(cluster.data),
        stop_signal=signal.SIGINT,  # "fast": clients are disconnected, nothing is lost
        cwd=Path("/"),
        account=cluster.way.account,
        share=share,
    )


async def ping_redis(url: str) -> None:
    """Raise unless the server answers and has loaded its data."""
    client = redis.asyncio.from_url(
        url,
        socket_timeout=_REDIS_TIMEOUT_S,
        socket_connect_timeout=_REDIS_TIMEOUT_S,
    )
    try:
        await client.ping()
    finally:
        await client.aclose()


@contextlib.asynccontextmanager
async def running_valkey(
    data_dir: Path, socket: Path | None = None
) -> AsyncIterator[str]:
    """A server with its data there; gives its URL, by the socket if it has one."""
    (port,) = free_ports(1)
    server = valkey.prepare(data_dir, port, socket)
    async with _running(valkey_spec(server), data_dir, _new_stack()):
        yield server.nearest_url


@contextlib.asynccontextmanager
async def running_postgres(
    data_dir: Path, *, durable: bool = True
) -> AsyncIterator[str]:
    """A server with its cluster there; gives the DSN of its database `hubgate`."""
    (port,) = free_ports(1)
    stack = _new_stack()
    cluster = await asyncio.to_thread(postgres.prepare, data_dir, durable=durable)
    spec = postgres_spec(cluster, port, stack, durable=durable)
    async with _running(spec, data_dir, stack):
        yield cluster.url(port)


def _new_stack() -> str:
    return secrets.token_hex(8)


@contextlib.asynccontextmanager
async def _running(spec: Spec, logs: Path, stack: str) -> AsyncIterator[None]:
    null = os.open(os.devnull, os.O_WRONLY)
    console = Console(Style.PLAIN, stdout=null, stderr=null)
    guard = Guard(stack)
    supervisor = Supervisor(stack=stack, environ={}, console=console, logs=logs)
    await guard.start()
    try:
        await supervisor.start([spec])
        yield
    finally:
        await supervisor.stop()
        await guard.stop()
        console.close()
        os.close(null)
