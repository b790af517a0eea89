"""The ADS adapter: Envoy's discovery messages on one side, the cache on the other."""

import asyncio
from collections.abc import AsyncIterator

from envoy.service.discovery.v3 import discovery_pb2

from control.xds.cache import Connection, SnapshotCache
from control.xds.snapshot import ResourceType
from control.xds.subscription import Request, Response
from runtime.grpc_server import RpcError, RpcStatus, Stream
from runtime.logs import get_logger

log = get_logger(__name__)

_PATH = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
_KINDS = {kind.value: kind for kind in ResourceType}


class DiscoveryService:
    """Serves aggregated discovery, state of the world."""

    def __init__(self, snapshots: SnapshotCache) -> None:
        self._snapshots = snapshots
        self._stopping = asyncio.Event()

    def methods(self) -> list[Stream]:
        return [
            Stream(
                path=f"{_PATH}StreamAggregatedResources",
                decode=discovery_pb2.DiscoveryRequest.FromString,
                encode=discovery_pb2.DiscoveryResponse.SerializeToString,
                handle=self.stream,
            )
        ]

    def stop(self) -> None:
        """End every stream; Envoy keeps what it has and tries again."""
        self._stopping.set()

    async def stream(
        self, requests: AsyncIterator[discovery_pb2.DiscoveryRequest]
    ) -> AsyncIterator[discovery_pb2.DiscoveryResponse]:
        first = await anext(requests, None)
        if first is None:
            return
        if not first.node.id:
            raise RpcError(
                RpcStatus.INVALID_ARGUMENT, "the first request names no node"
            )
        with self._snapshots.connection(first.node.id) as connection:
            _take(connection, first)
            reading = asyncio.create_task(_read(connection, requests))
            stopping = asyncio.create_task(self._stopping.wait())
            try:
                while True:
                    for response in connection.due():
                        yield _write(response)
                    if not await _woken(connection, reading, stopping):
                        return
            finally:
                reading.cancel()
                stopping.cancel()
                await asyncio.gather(reading, stopping, return_exceptions=True)


async def _woken(
    connection: Connection, reading: asyncio.Task[None], stopping: asyncio.Task[bool]
) -> bool:
    """Wait for something to send; False at the end of the stream."""
    waking = asyncio.create_task(connection.wake.wait())
    try:
        await asyncio.wait({waking, reading, stopping}, return_when="FIRST_COMPLETED")
    finally:
        waking.cancel()
    connection.wake.clear()
    return not reading.done() and not stopping.done()


async def _read(
    connection: Connection, requests: AsyncIterator[discovery_pb2.DiscoveryRequest]
) -> None:
    async for request in requests:
        _take(connection, request)


def _take(connection: Connection, message: discovery_pb2.DiscoveryRequest) -> None:
    kind = _KINDS.get(message.type_url)
    if kind is None:
        # Envoy may ask for types that we never refer to; silence is an answer.
        log.warning("envoy asked for an unknown type", type=message.type_url)
        return
    error = message.error_detail.message if message.HasField("error_detail") else None
    names = frozenset(message.resource_names)
    connection.receive(Request(kind, names, message.response_nonce, error))


def _write(response: Response) -> discovery_pb2.DiscoveryResponse:
    message = discovery_pb2.DiscoveryResponse(
        version_info=response.version,
        nonce=response.nonce,
        type_url=response.kind.value,
    )
    for content in response.resources:
        message.resources.add(type_url=response.kind.value, value=content)
    return message
