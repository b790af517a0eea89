"""A service that does all that a transport must carry, and remembers what happened."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtime.grpc_server import GrpcServer, Method, RpcError, RpcStatus, Stream, Unary
from runtime.http2.limits import Limits
from runtime.http2.transport import Http2Transport
from runtime.metrics import Metrics
from runtime.rpc import Calls
from runtime.settings import Address, GrpcTransport

PREFIX = "/test.Calls/"


@dataclass
class Service:
    """Its handlers take and give bytes."""

    release: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    cancelled: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    running: int = 0
    most_running: int = 0
    metadata: list[Mapping[str, str | bytes]] = field(default_factory=list)
    #: Whether its unary handlers run without a Task, where a transport can.
    is_light: bool = True

    def methods(self) -> list[Method]:
        unary = {"Shout": self.shout, "Wait": self.wait, "Grow": self.grow}
        streams = {"Talk": self.talk, "Ignore": self.ignore, "Join": self.join}
        return [
            *(self._unary(name, handle) for name, handle in unary.items()),
            *(
                Stream(PREFIX + name, bytes, bytes, one)
                for name, one in streams.items()
            ),
            replace(self._unary("Guarded", self.shout), authorize=self.authorize),
            replace(self._unary("Unreadable", self.shout), decode=_unreadable),
        ]

    def _unary(self, name: str, handle: Callable[[bytes], Awaitable[bytes]]) -> Unary:
        return Unary(PREFIX + name, bytes, bytes, handle, is_light=self.is_light)

    async def shout(self, request: bytes) -> bytes:
        if request == b"refuse":
            raise RpcError(
                RpcStatus.INVALID_ARGUMENT, "say 100 % ünders\nomething else"
            )
        if request == b"break":
            raise RecursionError
        if request == b"cancel":
            raise asyncio.CancelledError
        return request.upper()

    async def grow(self, request: bytes) -> bytes:
        return b"x" * int(request)

    async def wait(self, request: bytes) -> bytes:
        """Answers when it is released."""
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        self.started.release()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.release()
            raise
        finally:
            self.running -= 1
        return request

    async def talk(self, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for request in requests:
            yield await self.shout(request)

    async def join(self, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield b"+".join([request async for request in requests])

    async def ignore(self, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Reads nothing before it is released, then counts."""
        yield await self.wait(b"")
        yield b"%d" % len([request async for request in requests])

    def authorize(self, metadata: Mapping[str, str | bytes]) -> None:
        self.metadata.append(metadata)
        if metadata.get("secret") != "open":
            raise RpcError(RpcStatus.UNAUTHENTICATED, "no")


def _unreadable(_: bytes) -> bytes:
    raise ValueError


async def has(event: asyncio.Semaphore, times: int = 1) -> None:
    """It has happened so often, or does within a deadline."""
    async with asyncio.timeout(5):
        for _ in range(times):
            await event.acquire()


@dataclass(frozen=True)
class Served:
    """A running server of the service."""

    service: Service
    metrics: Metrics
    address: Address
    server: GrpcServer | Http2Transport


@asynccontextmanager
async def serving(
    transport: GrpcTransport, path: Path | None = None, *, is_light: bool = True
) -> AsyncIterator[Served]:
    service, metrics = Service(is_light=is_light), Metrics()
    address = Address(path=str(path)) if path else Address(host="127.0.0.1")
    server = GrpcServer(address, service.methods(), metrics, transport)
    await server.start()
    if path is None:
        address = Address(host="127.0.0.1", port=server.port)
    yield Served(service, metrics, address, server)
    await server.stop(0)


@asynccontextmanager
async def serving_within(limits: Limits) -> AsyncIterator[Served]:
    """Our transport, with limits that a test can reach."""
    service, metrics = Service(), Metrics()
    methods: Sequence[Method] = service.methods()
    here = Address(host="127.0.0.1")
    server = Http2Transport(here, methods, Calls(metrics), metrics, limits)
    address = Address(host="127.0.0.1", port=await server.start())
    yield Served(service, metrics, address, server)
    await server.stop(0)
