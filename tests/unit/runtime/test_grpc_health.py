"""What a watcher of the gRPC health service is told."""

from collections.abc import AsyncIterator

from grpc_health.v1 import health_pb2 as pb

from runtime.grpc_health import GrpcHealth
from runtime.rpc import Stream

_Status = pb.HealthCheckResponse


async def asked() -> AsyncIterator[pb.HealthCheckRequest]:
    yield pb.HealthCheckRequest()


async def test_a_stop_while_a_watcher_is_told_the_first_status_is_told_too() -> None:
    health = GrpcHealth()
    (watch,) = [one for one in health.methods() if isinstance(one, Stream)]
    told = aiter(watch.handle(asked()))

    first = await anext(told)
    health.stop()

    assert first.status == _Status.SERVING
    assert [one.status async for one in told] == [_Status.NOT_SERVING]
