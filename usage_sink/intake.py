"""Payloads of the spool -> records, with the prices in force. No I/O.

An entry that can't become a record becomes a misfit, and so does a payload that
can't be read at all: nothing is lost but what never was a request, and nothing holds
up what follows.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from envoy.service.accesslog.v3 import als_pb2

from runtime.logs import get_logger
from usage_sink import otlp
from usage_sink.errors import PricesPending
from usage_sink.events import NotARequest, Rejected, UsageEvent, read
from usage_sink.plain import Layout, Layouts, PlainRecord, Record
from usage_sink.pricing import PricesInForce
from usage_sink.records import Misfit, Origin, UsageRecord
from usage_sink.segments import Entry, Kind
from usage_sink.values import clean

log = get_logger(__name__)

_NODE_LIMIT: Final = 128
#: Of a payload that can't be read, kept with its misfit.
_EVIDENCE_BYTES: Final = 256

Attributes = Mapping[str, str]
_NO_EVIDENCE: Final[Attributes] = MappingProxyType({})
#: What one entry of a payload said: its node, that, and the evidence if it is bad.
Said = tuple[str, PlainRecord | UsageEvent | Rejected | NotARequest, Attributes]
Source = Callable[[bytes], Iterator[Said]]
#: NotARequest is counted, not kept.
Item = Record | Misfit | NotARequest


class Intake:
    """Reads payloads by kind; `sources` adds kinds to those of Envoy."""

    def __init__(
        self,
        prices: PricesInForce,
        *,
        region: str,
        version: str,
        sources: Mapping[Kind, Source] | None = None,
    ) -> None:
        self._prices = prices
        self._region = region
        self._version = version
        self._origins: dict[str, Origin] = {}
        self._sources: dict[Kind, Source] = {
            Kind.OTLP: from_batches(Layouts(self._origin)),
            Kind.ALS: from_entries(als_entries),
            **(sources or {}),
        }

    def read(self, entry: Entry) -> Iterator[Item]:
        """What `entry` holds, one by one.

        Raises:
            PricesPending: see `pricing`; read the entry again later.
        """
        try:
            said = self._sources[entry.kind](entry.payload)
            for node, event, evidence in said:
                match event:
                    case PlainRecord():
                        yield event
                    case UsageEvent():
                        charge = self._prices.charge(event)
                        yield UsageRecord(event, charge, self._origin(node))
                    case Rejected(reason):
                        yield Misfit(reason, evidence)
                    case NotARequest():
                        yield event
        except PricesPending:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it would be again
            why = f"{type(error).__name__}: {error}"
            log.error("payload can't be read", kind=entry.kind.name, why=why)  # noqa: TRY400 - a traceback may quote the payload
            yield _unreadable(entry, error)

    def _origin(self, node: str) -> Origin:
        origin = self._origins.get(node)
        if origin is None:
            if len(self._origins) >= _NODE_LIMIT:
                self._origins.clear()
            name = clean(node)[:_NODE_LIMIT] or "unknown"
            origin = Origin(name, self._region, self._version)
            self._origins[node] = origin
        return origin


def from_entries(
    entries: Callable[[bytes], Iterable[tuple[str, Attributes]]],
) -> Source:
    """A source of (node, access-log attributes)."""

    def said(payload: bytes) -> Iterator[Said]:
        for node, attributes in entries(payload):
            yield _said(node, attributes)

    return said


def from_batches(layouts: Layouts) -> Source:
    """Envoy's OTLP batches; what is plain is not taken apart."""

    def said(payload: bytes) -> Iterator[Said]:
        for node, fields, records in otlp.batches(payload):
            names, layout = otlp.names_of(fields), layouts.of(node, fields)
            for record in records:
                plain = None
                if layout is not None and not record.attributes:
                    plain = _plain(layout, record.body.string_value)
                if plain is None:
                    yield _said(node, otlp.attributes_of(names, record))
                else:
                    yield node, plain, _NO_EVIDENCE

    return said


def _plain(layout: Layout, body: str) -> PlainRecord | None:
    try:
        return layout.record(body)
    except Exception:  # as below; and it is read the other way
        log.exception("entry is not read as a plain one")
        return None


def _said(node: str, attributes: Attributes) -> Said:
    event = _event(attributes)
    if isinstance(event, Rejected):
        return node, event, _without_query(attributes)
    return node, event, _NO_EVIDENCE


def _event(attributes: Attributes) -> UsageEvent | Rejected | NotARequest:
    try:
        return read(attributes)
    except Exception as error:  # a fault of ours in one entry of many
        log.exception("entry can't be read")
        return Rejected(f"can't be read: {type(error).__name__}")


def from_events(
    events: Callable[[bytes], Iterable[UsageEvent | Rejected]], node: str
) -> Source:
    """A source of events that no Envoy logged; they count as `node`'s."""

    def said(payload: bytes) -> Iterator[Said]:
        for event in events(payload):
            yield node, event, _NO_EVIDENCE

    return said


def als_entries(payload: bytes) -> Iterator[tuple[str, dict[str, str]]]:
    message: Any = als_pb2.StreamAccessLogsMessage.FromString(payload)
    node = message.identifier.node.id
    for entry in message.http_logs.log_entry:
        yield node, dict(entry.common_properties.custom_tags)


def _unreadable(entry: Entry, error: Exception) -> Misfit:
    return Misfit(
        f"payload can't be read: {type(error).__name__}",
        {
            "kind": entry.kind.name,
            "bytes": str(len(entry.payload)),
            "sha256": hashlib.sha256(entry.payload).hexdigest(),
            "begins": entry.payload[:_EVIDENCE_BYTES].hex(),
        },
    )


def _without_query(attributes: Attributes) -> dict[str, str]:
    path = attributes.get("path", "")
    return {**attributes, "path": path.partition("?")[0]}
