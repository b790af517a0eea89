"""A row of the ledger: an event, its charge, and who saw it. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, Final

from runtime.contracts import Pricing
from runtime.values import value
from usage_sink import copied
from usage_sink.events import UsageEvent
from usage_sink.prices import CURRENCY, Charge, rate_per_token

#: Columns that the sink writes, in the order of `UsageRecord.row`: those that differ
#: in each request, those that many have in common, and those that have no length.
OWN: Final[dict[str, copied.Encode]] = {
    "id": copied.uuid,
    "created_at": copied.timestamptz,
    "duration_ms": copied.int4,
    "bytes_received": copied.int8,
    "bytes_sent": copied.int8,
}
COMMON: Final[dict[str, copied.Encode]] = {
    **dict.fromkeys(("service", "model", "route", "method", "outcome"), copied.text),
    **dict.fromkeys(("usage_source", "pricing", "price_version"), copied.text),
    **dict.fromkeys(("role", "node"), copied.text),
    **dict.fromkeys(("tokens", "credits"), copied.int4),
    **dict.fromkeys(("input_tokens", "output_tokens"), copied.int4),
    **dict.fromkeys(("cached_tokens", "reasoning_tokens"), copied.int4),
    "status": copied.int2,
}
_ENCODERS: Final[dict[str, copied.Encode]] = {
    **OWN,
    **COMMON,
    "user_id": copied.text,
    "metadata": copied.jsonb,
}
COLUMNS: Final = tuple(_ENCODERS)
_EACH: Final[tuple[copied.Encode, ...]] = tuple(_ENCODERS.values())

#: envoy.type.ai.v3.LLMProtocol
_PROTOCOLS: Final = {
    "1": "openai_chat_completions",
    "2": "openai_responses",
    "3": "anthropic_messages",
    "4": "gemini_generate_content",
}
_NO_COST: Final = f'{{"ratePerToken":0,"totalCost":0,"currency":"{CURRENCY}"}}'


@value
class Origin:
    """The Envoy that served the request, and where this sink stands."""

    node: str
    region: str
    version: str


@value
class Outline:
    """Metadata as JSON text, but for what differs in each request.

    Written by hand: JSON numbers hold any decimal exactly, Python's encoder only
    floats; and what is the same in every row is not encoded for every row.
    """

    request: str
    response: str
    gateway: str
    rest: str

    def filled(
        self,
        endpoint: str | None,
        duration_ms: int,
        bytes_sent: int,
        first_byte_ms: int | None,
        limits: Sequence[str],
    ) -> str:
        gateway = self.gateway
        if first_byte_ms is not None:
            gateway += f',"firstByteTime":{first_byte_ms}'
        if limits:
            gateway += f',"limits":[{",".join(limits)}]'
        if gateway:
            gateway = f',"gateway":{{{gateway[1:]}}}'
        return (
            f'{{"request":{{"endpoint":{_quoted(endpoint)},{self.request}}},'
            f'"response":{{{self.response},"responseTime":{duration_ms},'
            f'"size":{bytes_sent}}},{self.rest}{gateway}}}'
        )


@value
class UsageRecord:
    """What is written once and never changed."""

    event: UsageEvent
    charge: Charge
    origin: Origin

    @property
    def id(self) -> int:
        return self.event.id.int

    @property
    def day(self) -> date:
        """Of UTC, in which it began."""
        return self.event.created_at.date()

    def whole(self) -> "UsageRecord":
        """Itself; of a `plain.PlainRecord` what it stands for."""
        return self

    def copied(self) -> bytes:
        """Values of the row for a binary COPY, without their count."""
        return copied.fields(_EACH, self.row())

    def row(self) -> tuple[Any, ...]:
        """Values in the order of COLUMNS."""
        event, usage, charge = self.event, self.event.usage, self.charge
        return (
            event.id,
            event.created_at,
            event.duration_ms,
            event.bytes_received,
            event.bytes_sent,
            event.service,
            event.model,
            event.route,
            event.method,
            event.outcome,
            usage.source,
            charge.pricing,
            charge.version,
            event.role,
            self.origin.node,
            usage.total or 0,
            charge.credits,
            usage.input,
            usage.output,
            usage.cached,
            usage.reasoning,
            event.status,
            event.user_id,
            self.metadata(),
        )

    def metadata(self) -> str:
        """The platform's `UsageMetadata` as JSON text."""
        event = self.event
        return self.outline().filled(
            event.endpoint,
            event.duration_ms,
            event.bytes_sent,
            event.first_byte_ms,
            limit_texts(
                (one.limit, one.remaining, one.reset_s, one.rule)
                for one in event.limits
            ),
        )

    def outline(self) -> "Outline":
        """The metadata without what differs in each request."""
        event, origin = self.event, self.origin
        reason = "" if event.reason is None else f',"reason":{_quoted(event.reason)}'
        parameters = _encoded(dict(event.parameters)) if event.parameters else "{}"
        return Outline(
            f'"method":{_quoted(event.method)},"parameters":{parameters}',
            f'"statusCode":{event.status}{reason}',
            _gateway(event),
            f'"system":{_system(origin.node, origin.region, origin.version)}'
            f'{self._further()},"billing":{self._billing()}',
        )

    def _further(self) -> str:
        """Parts that few rows have."""
        event, text = self.event, ""
        if event.session_id is not None or event.conversation_id is not None:
            text += f',"session":{_session(event)}'
        if event.protocol is not None:
            text += f',"provider":{_provider(event, event.protocol)}'
        if event.parent_id is not None or event.labels:
            text += f',"report":{_encoded(_report(event))}'
        if event.adjusted or self.charge.is_clamped:
            text += f',"adjusted":{_encoded(self._adjusted())}'
        return text

    def _billing(self) -> str:
        if not self.charge.cost and self.charge.book_cost is None:
            return _NO_COST
        rate = rate_per_token(self.charge.cost, self.event.usage.total)
        by_book = self.charge.book_cost
        book = "" if by_book is None else f',"bookCost":{_number(by_book)}'
        return (
            f'{{"ratePerToken":{_number(rate)},'
            f'"totalCost":{_number(self.charge.cost)},"currency":"{CURRENCY}"{book}}}'
        )

    def _adjusted(self) -> list[str]:
        clamped = ("credits",) if self.charge.is_clamped else ()
        return sorted({*self.event.adjusted, *clamped})


@dataclass(frozen=True, slots=True)
class Misfit:
    """An entry that can't become a row, kept as evidence."""

    reason: str
    attributes: Mapping[str, str]


def is_disputed(record: UsageRecord) -> bool:
    """The upstream took other credits than the price book says."""
    return record.charge.book_cost is not None


def is_unpriced(record: UsageRecord) -> bool:
    """AI usage that a price must still be found for."""
    return record.charge.pricing is Pricing.UNPRICED


def _gateway(event: UsageEvent) -> str:
    """How Envoy saw the request and its end, as far as it said; each with a comma."""
    text = ""
    if event.upstream is not None:
        text += f',"upstream":{_quoted(event.upstream)}'
    if event.flags is not None:
        text += f',"flags":{_quoted(event.flags)}'
    if event.details is not None:
        text += f',"details":{_quoted(event.details)}'
    return text


def limit_texts(
    limits: Iterable[tuple[int | str, int | str, int | str, str]],
) -> list[str]:
    """JSON of limits: limit, remaining and reset, or their digits, and rule of each."""
    return [
        f'{{"rule":{_rule(rule)},"limit":{int(limit)},'
        f'"remaining":{int(remaining)},"reset":{int(reset)}}}'
        for limit, remaining, reset, rule in limits
    ]


@lru_cache(maxsize=256)
def _rule(text: str) -> str:
    return encode_basestring(text)


def _session(event: UsageEvent) -> str:
    session, conversation = event.session_id, event.conversation_id
    if conversation is None:
        return f'{{"sessionId":{_quoted(session)}}}'
    if session is None:
        return f'{{"conversationId":{_quoted(conversation)}}}'
    return (
        f'{{"sessionId":{_quoted(session)},"conversationId":{_quoted(conversation)}}}'
    )


def _provider(event: UsageEvent, protocol: str) -> str:
    """What the provider said that has no column of its own."""
    named = _PROTOCOLS.get(protocol, protocol)
    details = "".join(f',"{name}":{count}' for name, count in event.usage.details)
    return f'{{"protocol":{_quoted(named)}{details}}}'


def _report(event: UsageEvent) -> dict[str, object]:
    """What a service said of a usage that it reported."""
    parent = {} if event.parent_id is None else {"requestId": str(event.parent_id)}
    return {**parent, "labels": dict(event.labels)}


@lru_cache(maxsize=256)
def _system(node: str, region: str, version: str) -> str:
    return _encoded({"instanceId": node, "region": region, "version": version})


def _encoded(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _quoted(text: str | None) -> str:
    return "null" if text is None else encode_basestring(text)


def _number(value: object) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
