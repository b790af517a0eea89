"""The standard gRPC health service (grpc.health.v1) of a whole process."""

import asyncio
from collections.abc import AsyncIterator

from grpc_health.v1 import health_pb2 as pb

from runtime.rpc import Method, RpcError, RpcStatus, Stream, Unary

_PATH = "/grpc.health.v1.Health/"
_Status = pb.HealthCheckResponse


class GrpcHealth:
    """SERVING until it stops; knows one service, the empty name."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """NOT_SERVING from now on, and every watcher hears it."""
        self._stopping.set()

    def methods(self) -> list[Method]:
        decode = pb.HealthCheckRequest.FromString
        encode = _Status.SerializeToString
        return [
            Unary(f"{_PATH}Check", decode, encode, self._check),
            Stream(f"{_PATH}Watch", decode, encode, self._watch),
        ]

    def _answer(self) -> pb.HealthCheckResponse:
        is_stopping = self._stopping.is_set()
        return _Status(status=_Status.NOT_SERVING if is_stopping else _Status.SERVING)

    async def _check(self, request: pb.HealthCheckRequest) -> pb.HealthCheckResponse:
        if request.service:
            raise RpcError(RpcStatus.NOT_FOUND, "unknown service")
        return self._answer()

    async def _watch(
        self, requests: AsyncIterator[pb.HealthCheckRequest]
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        request = await anext(requests, None)
        if request is None:
            raise RpcError(RpcStatus.INVALID_ARGUMENT, "no request")
        # Before it is said: the stop may come while the answer is on its way.
        is_serving = not self._stopping.is_set()
        if request.service:
            yield _Status(status=_Status.SERVICE_UNKNOWN)
        else:
            yield self._answer()
        if is_serving:
            await self._stopping.wait()
            if not request.service:
                yield self._answer()
