"""What an AI call consumed, from the access log's attributes. Pure.

Rules:
- Envoy's complete record, else the trusted upstream's headers, else what was seen of a
  cut answer (Envoy's partial record, then the events of the stream). A zero that was
  said is zero; what nobody said is None, and `source` says so.
- Every provider's counts mean the same: cached tokens are part of `input`, reasoning
  tokens part of `output`. ai_protocol_manager makes it so for whole answers (Anthropic
  counts cached tokens beside its input, Gemini its thoughts beside its output, and the
  prompts of its tools beside its input); for cut streams this module does.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from runtime.contracts import UsageSource
from runtime.contracts.access_log import (
    SSE_CACHE_CREATION,
    SSE_CACHE_READ,
    SSE_CACHED,
    SSE_FINAL,
    SSE_INPUT,
    SSE_OUTPUT,
    SSE_PROTOCOL,
    SSE_REASONING,
    SSE_THOUGHTS,
    SSE_TOOL_USE,
)
from usage_sink.values import INT4_MAX, Reader

#: envoy.data.ai.v3.TokenUsage.extraction_status
_COMPLETE: Final = "1"
_PARTIAL: Final = "2"

#: Attribute -> its name in `metadata.provider`: what has no column of its own.
_DETAILS: Final = {
    "llm_cache_creation": "cacheCreationTokens",
    "llm_tool_use": "toolUseTokens",
    "llm_provider_total": "totalTokens",
}
#: Nine numbers, each of which a double can print.
_SSE_LIMIT: Final = 1024
_PROTOCOL: Final = re.compile(r"[1-9]")


@dataclass(frozen=True, slots=True)
class Usage:
    """What an AI call consumed, as far as anyone said.

    `cached` is a part of `input`, `reasoning` a part of `output`; `details` are further
    figures of the provider's, by name.
    """

    source: UsageSource
    total: int | None = None
    input: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None
    details: tuple[tuple[str, int], ...] = ()

    @property
    def is_counted(self) -> bool:
        return self.input is not None or self.output is not None


NOTHING_SAID: Final = Usage(UsageSource.ABSENT)


def total_of(input_: int | None, output: int | None) -> int | None:
    """Their sum, in the range of a column; None when neither was said."""
    if input_ is None and output is None:
        return None
    return min((input_ or 0) + (output or 0), INT4_MAX)


@dataclass(frozen=True, slots=True)
class Stream:
    """What the events of a stream said, up to its end or its cut."""

    protocol: str | None
    usage: Usage
    is_whole: bool


#: Attributes of which one at least has a value when tokens were counted by anybody.
SAID_OF_TOKENS: Final = frozenset({"llm_status", "usage_input", "usage_output", "sse"})


def usage_of(reader: Reader, stream: Stream | None, *, was_cut: bool) -> Usage:
    """Who is believed; `was_cut` says that more was consumed than anyone can say."""
    extraction = reader.text("llm_status")
    if extraction == _COMPLETE:
        if stream is None or stream.is_whole:
            return _recorded(reader, UsageSource.PROVIDER)
        # HTTP ended as it should, the provider's answer did not.
        return stream.usage
    counted = reader.count("usage_input"), reader.count("usage_output")
    if counted != (None, None):
        return Usage(UsageSource.HEADER, total_of(*counted), *counted)
    if extraction == _PARTIAL:
        return _recorded(reader, UsageSource.PARTIAL)
    if stream is not None and stream.usage.is_counted:
        return stream.usage
    return Usage(UsageSource.PARTIAL) if was_cut else NOTHING_SAID


def stream_of(reader: Reader) -> Stream | None:
    """What `sse_to_metadata` kept; None when the answer was no stream of a provider."""
    text = (reader.text("sse", _SSE_LIMIT) or "").strip()
    if not text.startswith("{"):
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        reader.adjusted.append("sse")
        return None
    protocol = said.get(SSE_PROTOCOL)
    is_known = isinstance(protocol, str) and _PROTOCOL.fullmatch(protocol)
    return Stream(
        protocol if is_known else None, _streamed(said), is_whole=SSE_FINAL in said
    )


def _streamed(said: Mapping[str, object]) -> Usage:
    """Only the providers that count beside have the keys that are added here."""
    read, created = _number(said, SSE_CACHE_READ), _number(said, SSE_CACHE_CREATION)
    thoughts, tools = _number(said, SSE_THOUGHTS), _number(said, SSE_TOOL_USE)
    input_ = _plus(_number(said, SSE_INPUT), read, created, tools)
    output = _plus(_number(said, SSE_OUTPUT), thoughts)
    cached = _number(said, SSE_CACHED)
    reasoning = _number(said, SSE_REASONING)
    named = {"cacheCreationTokens": created, "toolUseTokens": tools}
    return Usage(
        UsageSource.PARTIAL,
        total_of(input_, output),
        input_,
        output,
        read if cached is None else cached,
        thoughts if reasoning is None else reasoning,
        tuple((name, count) for name, count in named.items() if count),
    )


def _recorded(reader: Reader, source: UsageSource) -> Usage:
    input_, output = reader.count("llm_input"), reader.count("llm_output")
    is_whole = input_ is not None and output is not None
    details = ((name, reader.count(key)) for key, name in _DETAILS.items())
    return Usage(
        source,
        total_of(input_, output) if is_whole else reader.count("llm_total"),
        input_,
        output,
        reader.count("llm_cached"),
        reader.count("llm_reasoning"),
        # Envoy writes 0 for what the provider did not say.
        tuple((name, count) for name, count in details if count),
    )


def _number(said: Mapping[str, object], key: str) -> int | None:
    value = said.get(key)
    if not isinstance(value, int | float) or not 0 <= value < float("inf"):
        return None
    return min(int(value), INT4_MAX)


def _plus(first: int | None, *others: int | None) -> int | None:
    if first is None and all(one is None for one in others):
        return None
    return min((first or 0) + sum(one or 0 for one in others), INT4_MAX)
