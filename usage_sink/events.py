"""An access-log entry's attributes -> a usage event. Pure; one mapper, any transport.

Rules:
- Names: the trusted upstream's `x-usage-service|model` headers, else what Envoy read
  in the provider's answer, else the route's service.
- Counts: Envoy's complete record, else the headers, else Envoy's partial record.
  Explicit zero is zero; what nobody said is None, and `usage_source` says so.
- `input_tokens` includes `cached_tokens` for every provider: Envoy's
  ai_protocol_manager makes it so (Anthropic's own figure does not).
- No query string, no token, no body enters an event.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from runtime.contracts import UsageSource
from usage_sink.outcome import Outcome, outcome_of
from usage_sink.values import INT4_MAX, INT8_MAX, Reader, instant

#: envoy.type.ai.v3.LLMProtocol, as CEL prints it -> the platform's service names.
_PROVIDERS: Final = {
    "1": "openai",  # OPENAI_CHAT_COMPLETIONS
    "2": "openai",  # OPENAI_RESPONSES
    "3": "claude",  # ANTHROPIC_MESSAGES
    "4": "gemini",  # GEMINI_GENERATE_CONTENT
}
#: envoy.data.ai.v3.TokenUsage.extraction_status
_COMPLETE: Final = "1"
_PARTIAL: Final = "2"

_PATH_LIMIT: Final = 2048
_STATUS_LIMIT: Final = 599
_UNKNOWN_SERVICE: Final = "gateway"
_QUERY: Final = re.compile(r"[?#]")
_CREDITS: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Usage:
    """What an AI call consumed, as far as anyone said.

    `cached` is a part of `input`, `reasoning` a part of `output`.
    """

    source: UsageSource
    total: int | None = None
    input: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One request that reached the gateway; facts only, no price."""

    id: UUID
    created_at: datetime
    service: str
    model: str | None
    is_ai: bool
    usage: Usage
    reported_credits: Decimal | None
    user_id: str | None
    role: str | None
    route: str | None
    method: str | None
    endpoint: str | None
    status: int
    outcome: Outcome
    reason: str | None
    duration_ms: int
    bytes_received: int
    bytes_sent: int
    session_id: str | None
    conversation_id: str | None
    adjusted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """An entry that should have been an event and can't be: kept in quarantine."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotARequest:
    """What the codec refused before there was a request: no id, no route.

    Counted, not kept: anyone can send garbage bytes, and would fill a table.
    """


def read(attributes: Mapping[str, str]) -> UsageEvent | Rejected | NotARequest:
    """The event of one access-log entry."""
    reader = Reader(attributes)
    identity, route = reader.text("id"), reader.text("route")
    if identity is None and route is None:
        return NotARequest()
    event_id = _uuid(identity)
    if event_id is None:
        return Rejected("id is not a UUID")
    created_at = instant(attributes.get("start"))
    if created_at is None:
        return Rejected("start is not a time in Unix seconds")
    return _event(reader, event_id, created_at, route)


def _event(
    reader: Reader, event_id: UUID, created_at: datetime, route: str | None
) -> UsageEvent:
    outcome = outcome_of(
        status := reader.count("status", _STATUS_LIMIT) or 0,
        reader.text("flags"),
        reader.text("details", 256),
    )
    named = reader.text("usage_service", 64)
    provider = _PROVIDERS.get(reader.text("llm_protocol") or "")
    model = reader.text("usage_model") or reader.text("llm_model")
    usage = _usage(reader, outcome, status)
    reported = _credits(reader)
    return UsageEvent(
        id=event_id,
        created_at=created_at,
        service=named or provider or reader.text("service", 64) or _UNKNOWN_SERVICE,
        model=model,
        is_ai=(
            usage.source is not UsageSource.ABSENT
            or any(said is not None for said in (named, model, reported))
            or reader.text("llm_status") is not None
            or _consumed_on_ai_route(reader, status)
        ),
        usage=usage,
        reported_credits=reported,
        user_id=reader.text("user_id", 256),
        role=reader.text("role", 64),
        route=route,
        method=reader.text("method", 32),
        endpoint=_endpoint(reader),
        status=status,
        outcome=outcome,
        reason=reader.text("reason"),
        duration_ms=reader.count("duration_ms") or 0,
        bytes_received=reader.count("bytes_received", INT8_MAX) or 0,
        bytes_sent=reader.count("bytes_sent", INT8_MAX) or 0,
        session_id=reader.text("session_id"),
        conversation_id=reader.text("conversation_id"),
        adjusted=tuple(reader.adjusted),
    )


def _usage(reader: Reader, outcome: Outcome, status: int) -> Usage:
    extraction = reader.text("llm_status")
    if extraction == _COMPLETE:
        return _provider_usage(reader, UsageSource.PROVIDER)
    counted = reader.count("usage_input"), reader.count("usage_output")
    if counted != (None, None):
        return _sum(UsageSource.HEADER, *counted, cached=None)
    if extraction == _PARTIAL:
        return _provider_usage(reader, UsageSource.PARTIAL)
    was_cut = outcome in (Outcome.ABORTED, Outcome.UPSTREAM_ERROR)
    if was_cut and _consumed_on_ai_route(reader, status):
        return Usage(UsageSource.PARTIAL)
    return Usage(UsageSource.ABSENT)


def _provider_usage(reader: Reader, source: UsageSource) -> Usage:
    input_, output = reader.count("llm_input"), reader.count("llm_output")
    usage = _sum(source, input_, output, reader.count("llm_cached"))
    if input_ is None or output is None:
        return Usage(source, reader.count("llm_total"), input_, output, usage.cached)
    return usage


def _sum(
    source: UsageSource, input_: int | None, output: int | None, cached: int | None
) -> Usage:
    total = min((input_ or 0) + (output or 0), INT4_MAX)
    return Usage(source, total, input_, output, cached)


def _consumed_on_ai_route(reader: Reader, status: int) -> bool:
    """The provider began a good answer, so it consumed, whatever came of it."""
    return reader.text("ai") == "true" and 200 <= status < 300  # noqa: PLR2004


def _credits(reader: Reader) -> Decimal | None:
    text = reader.text("usage_credits")
    if text is None:
        return None
    if _CREDITS.fullmatch(text) is None:
        reader.adjusted.append("usage_credits")
        return None
    return Decimal(text)


def _endpoint(reader: Reader) -> str | None:
    path = reader.text("path", _PATH_LIMIT)
    # Envoy is told to leave the query out; a token in one must never get here.
    return None if path is None else _QUERY.split(path, maxsplit=1)[0]


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text or "")
    except ValueError:
        return None
