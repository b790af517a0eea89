"""Envoy's two access-log transports -> the spool.

OTLP is answered when the batch is durable in the spool, else UNAVAILABLE: the one
status that Envoy's `retry_on: unavailable` repeats. Nothing is decoded before: what
can't be read is the loader's to put aside. ALS has no answer, so its stream is not
read further until what it brought is durable (back-pressure).
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from envoy.service.accesslog.v3 import als_pb2

from runtime.grpc_server import RpcError, RpcStatus, Stream, Unary
from runtime.lifecycle import wait_or_stop
from runtime.logs import get_logger
from runtime.metrics import Metrics
from usage_sink import otlp
from usage_sink.errors import SpoolUnavailable
from usage_sink.segments import Kind
from usage_sink.spool import Spool

log = get_logger(__name__)

ALS_PATH: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"

_HELD_RETRY_S: Final = 0.2


class UsageSinkService:
    """The gRPC methods; `stop` ends the streams."""

    def __init__(self, spool: Spool, metrics: Metrics, stop: asyncio.Event) -> None:
        self._spool = spool
        self._metrics = metrics
        self._stop = stop

    def methods(self) -> tuple[Unary, Stream]:
        return (
            Unary(
                otlp.EXPORT_PATH,
                _as_it_is,
                otlp.ExportResponse.SerializeToString,
                self.Export,
            ),
            Stream(
                ALS_PATH,
                als_pb2.StreamAccessLogsMessage.FromString,
                als_pb2.StreamAccessLogsResponse.SerializeToString,
                self.StreamAccessLogs,
            ),
        )

    async def Export(self, request: bytes) -> Any:
        try:
            await self._spool.append(Kind.OTLP, request)
        except SpoolUnavailable as error:
            raise RpcError(RpcStatus.UNAVAILABLE, str(error)) from error
        return otlp.ExportResponse()

    async def StreamAccessLogs(
        self, messages: AsyncIterator[Any]
    ) -> AsyncIterator[Any]:
        node = ""
        while (message := await self._next(messages)) is not None:
            # Only a stream's first message names the node.
            node = message.identifier.node.id or node
            message.identifier.node.id = node
            await self._hold(message)
        yield als_pb2.StreamAccessLogsResponse()

    async def _hold(self, message: Any) -> None:
        """Return when `message` is durable, or when the process ends."""
        payload = message.SerializeToString()
        while True:
            try:
                await self._spool.append(Kind.ALS, payload)
            except SpoolUnavailable as error:
                if await wait_or_stop(self._stop, _HELD_RETRY_S):
                    rows = len(message.http_logs.log_entry)
                    log.warning("ALS entries lost", rows=rows, why=str(error))
                    self._metrics.inc(
                        "hubgate_usage_records_total", rows, result="abandoned"
                    )
                    return
            else:
                return

    async def _next(self, messages: AsyncIterator[Any]) -> Any | None:
        """The next message; None at the stream's end, or when the process ends."""
        arriving = asyncio.ensure_future(anext(messages, None))
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({arriving, stopping}, return_when="FIRST_COMPLETED")
            return arriving.result() if arriving.done() else None
        finally:
            arriving.cancel()
            stopping.cancel()


def _as_it_is(payload: bytes) -> bytes:
    return payload
