"""Valkey servers of a test's own, which it may stop, kill and start again."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from local import binaries, ports
from runtime import redis as runtime_redis
from runtime.redis import RedisUnavailable

DEADLINE_S = 20.0
POLL_S = 0.01
SLOTS = 16384
KERNELS_FIRST_PORT = 32_768


def free_ports(count: int) -> list[int]:
    """Also free with 10,000 more, which is a cluster's second port.

    None of them is one that the kernel may give to somebody else before it is taken.
    """
    found: list[int] = []
    while len(found) < count:
        (port,) = ports.free_ports(1, excluding=found)
        second = port + 10_000
        if second < KERNELS_FIRST_PORT and ports.is_free(second):
            found.append(port)
    return found


@dataclass
class Server:
    """One Valkey process; what it holds is lost when it ends."""

    folder: Path
    port: int
    options: tuple[str, ...] = ()
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Redis:
        return runtime_redis.connect(self.url, timeout_s=2.0)

    async def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.process = await asyncio.create_subprocess_exec(
            str(binaries.valkey()),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
            *("--dir", str(self.folder), "--loglevel", "warning"),
            *("--set-proc-title", "no", *self.options),
            stdout=asyncio.subprocess.DEVNULL,
        )
        client = self.client()
        async with asyncio.timeout(DEADLINE_S):
            while not await _answers(client):
                await asyncio.sleep(POLL_S)
        await client.aclose()

    @staticmethod
    async def command(client: Redis, *words: str | int) -> Any:
        return await client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


async def _answers(client: Redis) -> bool:
    try:
        await runtime_redis.ping(client)
    except RedisUnavailable:
        return False
    return True


@asynccontextmanager
async def a_server(folder: Path) -> AsyncIterator[Server]:
    (port,) = free_ports(1)
    server = Server(folder, port)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


@asynccontextmanager
async def a_cluster(folder: Path, masters: int = 3) -> AsyncIterator[list[Server]]:
    """Masters without replicas that have agreed on who holds which slots."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
    async with AsyncExitStack() as closing:
        servers = []
        for number, port in enumerate(free_ports(masters)):
            server = Server(
                folder / str(number),
                port,
                (*options, "--cluster-require-full-coverage", "no"),
            )
            await server.start()
            closing.push_async_callback(server.kill)
            servers.append(server)
        await _join(servers)
        yield servers


async def _join(servers: list[Server]) -> None:
    clients = [server.client() for server in servers]
    share = SLOTS // len(servers) + 1
    for place, client in enumerate(clients):
        first, last = place * share, min((place + 1) * share, SLOTS) - 1
        await Server.command(client, "CLUSTER", "ADDSLOTSRANGE", first, last)
    for server in servers[1:]:
        await Server.command(clients[0], "CLUSTER", "MEET", "127.0.0.1", server.port)
    async with asyncio.timeout(DEADLINE_S):
        while not all([await _is_whole(one, len(servers)) for one in clients]):
            await asyncio.sleep(POLL_S)
    for client in clients:
        await client.aclose()


async def _is_whole(client: Redis, masters: int) -> bool:
    text = str(await Server.command(client, "CLUSTER", "INFO"))
    return (
        "cluster_state:ok" in text
        and f"cluster_size:{masters}" in text
        and f"cluster_slots_ok:{SLOTS}" in text
    )
