"""The seam between a gRPC transport and handlers that are plain async functions.

A service lists its methods as `Unary` and `Stream` values; nothing but this module
knows which library carries them. Whatever a handler raises unexpectedly becomes
INTERNAL, is logged with its traceback and counted.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as grpc_health

from runtime.logs import get_logger
from runtime.metrics import Metrics
from runtime.settings import Address

log = get_logger(__name__)

#: Envoy sends one batch per message; a stalled sink may get a large one.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class RpcStatus(Enum):
    """The gRPC codes that handlers use."""

    INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
    UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
    PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED
    RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
    UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
    INTERNAL = grpc.StatusCode.INTERNAL


class RpcError(Exception):
    """Raised by a handler: the caller gets this status and message."""

    def __init__(self, status: RpcStatus, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Unary:
    """One request, one answer. `path` is `/package.Service/Method`.

    `authorize` is given the call's metadata, and raises RpcError when it may not pass.
    """

    path: str
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    handle: Callable[[Any], Awaitable[Any]]
    authorize: Callable[[Mapping[str, str | bytes]], None] | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """Messages both ways; for client streaming yield once, at the end."""

    path: str
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    handle: Callable[[AsyncIterator[Any]], AsyncIterator[Any]]


Method = Unary | Stream
_Context = grpc.aio.ServicerContext[Any, Any]


class GrpcServer:
    """Serves `methods` at `address`, with the standard gRPC health service."""

    def __init__(
        self, address: Address, methods: Sequence[Method], metrics: Metrics
    ) -> None:
        self._address = address
        self._metrics = metrics
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
                # Envoy pings idle connections to notice a dead peer; by default the
                # server takes a few of them for an attack and hangs up.
                ("grpc.http2.max_ping_strikes", 0),
            ]
        )
        self._server.add_generic_rpc_handlers(tuple(map(self._handler, methods)))
        self._health = grpc_health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.port = 0

    async def start(self) -> None:
        """Listen.

        Raises:
            RuntimeError: the address can't be bound.
        """
        if self._address.path is not None:
            # A socket file outlives a killed process and would refuse the bind.
            await asyncio.to_thread(Path(self._address.path).unlink, missing_ok=True)
        self.port = self._server.add_insecure_port(self._address.grpc_target)
        await self._server.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let running ones end within `grace_s`, then cut them."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
        if self._address.path is not None:
            with suppress(FileNotFoundError):
                await asyncio.to_thread(Path(self._address.path).unlink)

    def _handler(self, method: Method) -> grpc.GenericRpcHandler:
        service, _, name = method.path.removeprefix("/").rpartition("/")
        return grpc.method_handlers_generic_handler(service, {name: self._rpc(method)})

    def _rpc(self, method: Method) -> "grpc.RpcMethodHandler[Any, Any]":
        match method:
            case Unary():
                return grpc.unary_unary_rpc_method_handler(
                    self._unary(method), method.decode, method.encode
                )
            case Stream():
                return grpc.stream_stream_rpc_method_handler(
                    self._stream(method), method.decode, method.encode
                )

    def _unary(self, method: Unary) -> Callable[[Any, _Context], Awaitable[Any]]:
        async def call(request: Any, context: _Context) -> Any:
            started = time.perf_counter()
            try:
                if method.authorize is not None:
                    # Of a name that came twice the last counts.
                    method.authorize(dict(context.invocation_metadata() or ()))
                return await method.handle(request)
            except RpcError as error:
                await context.abort(error.status.value, error.message)
            except Exception:
                log.exception("rpc failed", method=method.path)
                await self._fail(method, context)
            finally:
                elapsed = time.perf_counter() - started
                self._metrics.observe(
                    "hubgate_rpc_seconds", elapsed, method=method.path
                )

        return call

    def _stream(
        self, method: Stream
    ) -> Callable[[AsyncIterator[Any], _Context], AsyncIterator[Any]]:
        async def call(
            requests: AsyncIterator[Any], context: _Context
        ) -> AsyncIterator[Any]:
            try:
                async for answer in method.handle(requests):
                    yield answer
            except RpcError as error:
                await context.abort(error.status.value, error.message)
            except Exception:
                log.exception("rpc failed", method=method.path)
                await self._fail(method, context)

        return call

    async def _fail(self, method: Method, context: _Context) -> None:
        self._metrics.inc("hubgate_grpc_failures_total", method=method.path)
        await context.abort(grpc.StatusCode.INTERNAL, "internal error")
