"""Where services and the transports of gRPC meet."""

from collections.abc import Sequence
from typing import Protocol

from runtime import settings
from runtime.grpc_health import GrpcHealth
from runtime.metrics import Metrics
from runtime.rpc import (
    MAX_MESSAGE_BYTES,
    Calls,
    Method,
    RpcError,
    RpcStatus,
    Stream,
    Unary,
)
from runtime.settings import Address, GrpcTransport

__all__ = [
    "MAX_MESSAGE_BYTES",
    "GrpcServer",
    "Method",
    "RpcError",
    "RpcStatus",
    "Stream",
    "Unary",
]


class Transport(Protocol):
    """Carries calls; both of ours pass one conformance suite."""

    async def start(self) -> int:
        """Listen; the port, where there is one.

        Raises:
            RuntimeError: the address can't be bound.
        """

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let running ones end within `grace_s`, then cut them."""


class GrpcServer:
    """Serves `methods` at `address`, with the standard gRPC health service."""

    def __init__(
        self,
        address: Address,
        methods: Sequence[Method],
        metrics: Metrics,
        transport: GrpcTransport | None = None,
    ) -> None:
        self._health = GrpcHealth()
        self._transport = _transport(
            transport or settings.DEFAULT_GRPC_TRANSPORT,
            address,
            [*methods, *self._health.methods()],
            metrics,
        )
        self.port = 0

    async def start(self) -> None:
        """Listen.

        Raises:
            RuntimeError: the address can't be bound.
        """
        self.port = await self._transport.start()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let running ones end within `grace_s`, then cut them."""
        self._health.stop()
        await self._transport.stop(grace_s)


def _transport(
    transport: GrpcTransport,
    address: Address,
    methods: Sequence[Method],
    metrics: Metrics,
) -> Transport:
    # What is not used is not loaded: grpcio alone takes 20 MB and 0.1 s.
    match transport:
        case GrpcTransport.GRPCIO:
            from runtime.grpcio_transport import GrpcioTransport  # noqa: PLC0415

            return GrpcioTransport(address, methods, Calls(metrics))
        case GrpcTransport.HTTP2:
            from runtime.http2.transport import Http2Transport  # noqa: PLC0415

            return Http2Transport(address, methods, Calls(metrics), metrics)
