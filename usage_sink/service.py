"""Envoy's two access-log transports -> entries for the writer.

OTLP is answered when its entries are committed, else UNAVAILABLE: the one status
that Envoy's `retry_on: unavailable` repeats. ALS has no answer, so its stream is not
read further until what it brought is committed (back-pressure).
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from envoy.service.accesslog.v3 import als_pb2

from runtime.grpc_server import RpcError, RpcStatus, Stream, Unary
from runtime.lifecycle import wait_or_stop
from runtime.logs import get_logger
from runtime.metrics import Metrics
from usage_sink import otlp
from usage_sink.errors import LedgerUnavailable
from usage_sink.events import NotARequest, Rejected, UsageEvent, read
from usage_sink.pricing import PricesInForce
from usage_sink.records import Misfit, Origin, UsageRecord
from usage_sink.values import clean
from usage_sink.writer import Entries, LedgerWriter

log = get_logger(__name__)

ALS_PATH: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"

_HELD_RETRY_S: Final = 0.2
_NODE_LIMIT: Final = 128

_Entry = tuple[str, dict[str, str]]  # node, attributes


class Intake:
    """Turns what Envoys send into records, with the prices in force."""

    def __init__(
        self, prices: PricesInForce, metrics: Metrics, *, region: str, version: str
    ) -> None:
        self._prices = prices
        self._metrics = metrics
        self._region = region
        self._version = version

    def convert(self, entries: Iterable[_Entry]) -> Entries:
        """Records and misfits; nothing is lost but what never was a request.

        Raises:
            PricesPending: see `pricing`.
        """
        records: list[UsageRecord] = []
        misfits: list[Misfit] = []
        unidentified = 0
        for node, attributes in entries:
            match read(attributes):
                case UsageEvent() as event:
                    charge = self._prices.charge(event)
                    records.append(UsageRecord(event, charge, self._origin(node)))
                case Rejected(reason):
                    misfits.append(Misfit(reason, _without_query(attributes)))
                case NotARequest():
                    unidentified += 1
        if unidentified:
            self._metrics.inc(
                "hubgate_usage_records_total", unidentified, result="unidentified"
            )
        return Entries(tuple(records), tuple(misfits))

    def _origin(self, node: str) -> Origin:
        name = clean(node)[:_NODE_LIMIT] or "unknown"
        return Origin(name, self._region, self._version)


class UsageSinkService:
    """The gRPC methods; `stop` ends the streams."""

    def __init__(
        self,
        intake: Intake,
        writer: LedgerWriter,
        metrics: Metrics,
        stop: asyncio.Event,
    ) -> None:
        self._intake = intake
        self._writer = writer
        self._metrics = metrics
        self._stop = stop

    def methods(self) -> tuple[Unary, Stream]:
        return (
            Unary(
                otlp.EXPORT_PATH,
                otlp.ExportRequest.FromString,
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

    async def Export(self, request: Any) -> Any:
        try:
            await self._writer.write(self._intake.convert(otlp.entries(request)))
        except LedgerUnavailable as error:
            raise RpcError(RpcStatus.UNAVAILABLE, str(error)) from error
        return otlp.ExportResponse()

    async def StreamAccessLogs(
        self, messages: AsyncIterator[Any]
    ) -> AsyncIterator[Any]:
        node = ""
        while (message := await self._next(messages)) is not None:
            # Only a stream's first message names the node.
            node = message.identifier.node.id or node
            await self._hold(_als_entries(node, message))
        yield als_pb2.StreamAccessLogsResponse()

    async def _hold(self, entries: list[_Entry]) -> None:
        """Return when `entries` are committed, or when the process ends."""
        while True:
            try:
                await self._writer.write(self._intake.convert(entries))
            except LedgerUnavailable as error:
                if await wait_or_stop(self._stop, _HELD_RETRY_S):
                    log.warning("ALS entries lost", rows=len(entries), why=str(error))
                    self._metrics.inc(
                        "hubgate_usage_records_total", len(entries), result="abandoned"
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


def _als_entries(node: str, message: Any) -> list[_Entry]:
    return [
        (node, dict(entry.common_properties.custom_tags))
        for entry in message.http_logs.log_entry
    ]


def _without_query(attributes: dict[str, str]) -> dict[str, str]:
    path = attributes.get("path", "")
    return {**attributes, "path": path.partition("?")[0]}
