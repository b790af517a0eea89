"""A row of the ledger: an event, its charge, and who saw it. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from runtime.contracts import Pricing
from usage_sink.events import UsageEvent
from usage_sink.prices import CURRENCY, Charge, rate_per_token

#: Columns that the sink writes, in the order of `UsageRecord.row`.
COLUMNS: Final = (
    "id",
    "user_id",
    "service",
    "model",
    "tokens",
    "credits",
    "metadata",
    "created_at",
    "route",
    "method",
    "status",
    "outcome",
    "duration_ms",
    "bytes_received",
    "bytes_sent",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "usage_source",
    "pricing",
    "price_version",
    "role",
    "node",
)


@dataclass(frozen=True, slots=True)
class Origin:
    """The Envoy that served the request, and where this sink stands."""

    node: str
    region: str
    version: str


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What is written once and never changed."""

    event: UsageEvent
    charge: Charge
    origin: Origin

    def row(self) -> tuple[Any, ...]:
        """Values in the order of COLUMNS."""
        event, usage, charge = self.event, self.event.usage, self.charge
        return (
            event.id,
            event.user_id,
            event.service,
            event.model,
            usage.total or 0,
            charge.credits,
            self.metadata(),
            event.created_at,
            event.route,
            event.method,
            event.status,
            event.outcome.value,
            event.duration_ms,
            event.bytes_received,
            event.bytes_sent,
            usage.input,
            usage.output,
            usage.cached,
            usage.reasoning,
            usage.source.value,
            charge.pricing.value,
            charge.version,
            event.role,
            self.origin.node,
        )

    def metadata(self) -> str:
        """The platform's `UsageMetadata` as JSON text.

        Billing is written by hand: JSON numbers hold any decimal exactly, Python's
        encoder only floats.
        """
        event = self.event
        response: dict[str, object] = {
            "statusCode": event.status,
            "responseTime": event.duration_ms,
            "size": event.bytes_sent,
        }
        if event.reason is not None:
            response["reason"] = event.reason
        document: dict[str, object] = {
            "request": {
                "endpoint": event.endpoint,
                "method": event.method,
                "parameters": {},
            },
            "response": response,
            "system": {
                "instanceId": self.origin.node,
                "region": self.origin.region,
                "version": self.origin.version,
            },
        }
        if session := _session(event):
            document["session"] = session
        if adjusted := self._adjusted():
            document["adjusted"] = adjusted
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        return f'{text[:-1]},"billing":{self._billing()}}}'

    def _billing(self) -> str:
        rate = rate_per_token(self.charge.cost, self.event.usage.total)
        return (
            f'{{"ratePerToken":{_number(rate)},'
            f'"totalCost":{_number(self.charge.cost)},"currency":"{CURRENCY}"}}'
        )

    def _adjusted(self) -> list[str]:
        clamped = ("credits",) if self.charge.is_clamped else ()
        return sorted({*self.event.adjusted, *clamped})


@dataclass(frozen=True, slots=True)
class Misfit:
    """An entry that can't become a row, kept as evidence."""

    reason: str
    attributes: Mapping[str, str]


def is_unpriced(record: UsageRecord) -> bool:
    """AI usage that a price must still be found for."""
    return record.charge.pricing is Pricing.UNPRICED


def _session(event: UsageEvent) -> dict[str, str]:
    named = {
        "sessionId": event.session_id,
        "conversationId": event.conversation_id,
    }
    return {key: value for key, value in named.items() if value is not None}


def _number(value: object) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
