"""What Envoy says of a request, and authz of one that it let pass."""

from typing import Final

from runtime.contracts import (
    AUTHZ_NAMESPACE,
    METADATA_REASON,
    METADATA_ROLE,
    METADATA_USER_ID,
    RATELIMIT_NAMESPACE,
    USAGE_HEADERS,
    limit_counters,
)

_TOKEN_USAGE = "metadata.typed_filter_metadata['envoy.ai.token_usage']"

#: Namespaces in which Envoy keeps what the events of a provider's stream said so far:
#: numbers and our own constants in the first, the model's name (any length) apart.
SSE_NAMESPACE: Final = "hubgate.sse"
SSE_MODEL_NAMESPACE: Final = "hubgate.sse.model"
SSE_MODEL: Final = "model"
SSE_PROTOCOL: Final = "protocol"  # a number of envoy.type.ai.v3.LLMProtocol, as text
#: There when an event was seen that comes near the end only.
SSE_FINAL: Final = "final"
SSE_INPUT: Final = "input"
SSE_OUTPUT: Final = "output"
SSE_CACHED: Final = "cached"  # a part of the input
SSE_REASONING: Final = "reasoning"  # a part of the output
#: Counted beside the input (Anthropic; Gemini's tools) or the output (Gemini).
SSE_CACHE_READ: Final = "cache_read"
SSE_CACHE_CREATION: Final = "cache_creation"
SSE_TOOL_USE: Final = "tool_use"
SSE_THOUGHTS: Final = "thoughts"

#: Further attributes, when the operator lists query parameters to keep: their names
#: separated by commas, and behind this prefix the value of each.
QUERY_NAMES: Final = "query"
QUERY_VALUE: Final = "query."

#: In OTLP a record's attributes are one text, its body: the values, in the order of
#: the names that the batch's resource lists under LOG_FIELDS. To read forty attributes
#: of their own would cost more than all else together.
LOG_FIELDS: Final = "fields"
#: In no HTTP header and no path (RFC 9110 §5.5, and Envoy refuses it), in no identity.
LOG_SEPARATOR: Final = "\x1f"
#: These may hold any character, so they stay attributes of their own: what a
#: provider's JSON says, and (QUERY_VALUE) decoded query parameters.
LOG_FREE_TEXTS: Final = frozenset({"llm_model", "sse_model"})

#: Only answers of providers have these; other requests are logged without them, since
#: to look for what is not there was a fifth of Envoy's work.
LOG_AI_PREFIXES: Final = ("llm_", "sse")

#: The attribute that holds the limits' counters.
LOG_LIMITS: Final = "limits"

#: What differs in each request comes first: the rest of a body is one text, the same
#: for thousands of them (`usage_sink/plain.py`).
LOG_OWN: Final = (
    *("id", "start", "duration_ms", "upstream_ms", "bytes_received", "bytes_sent"),
    *("address", "path", "user_id", LOG_LIMITS, "session_id", "conversation_id"),
)

#: Attribute -> Envoy format string. The OTLP logger, the ALS logger (as custom
#: tags) and the file log carry these, as text; an attribute without a
#: value is "-" or missing. `control` writes them, `usage_sink` reads them.
#: LOG_OWN come first.
ACCESS_LOG_ATTRIBUTES: Final[dict[str, str]] = {
    "id": "%STREAM_ID%",
    "start": "%START_TIME(%s.%6f)%",
    "duration_ms": "%DURATION%",
    "upstream_ms": "%RESPONSE_DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "path": "%PATH(NQ:ORIG_OR_PATH)%",
    "user_id": f"%DYNAMIC_METADATA({AUTHZ_NAMESPACE}:{METADATA_USER_ID})%",
    LOG_LIMITS: limit_counters(RATELIMIT_NAMESPACE),
    "session_id": "%REQ(x-session-id)%",
    "conversation_id": "%REQ(x-conversation-id)%",
    "route": "%ROUTE_NAME%",
    "service": "%METADATA(ROUTE:hubgate:service)%",
    "ai": "%METADATA(ROUTE:hubgate:ai)%",
    "method": "%REQ(:METHOD)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "upstream": "%UPSTREAM_HOST%",
    "role": f"%DYNAMIC_METADATA({AUTHZ_NAMESPACE}:{METADATA_ROLE})%",
    "reason": f"%DYNAMIC_METADATA({AUTHZ_NAMESPACE}:{METADATA_REASON})%",
    "llm_protocol": f"%CEL({_TOKEN_USAGE}.llm_protocol)%",
    "llm_model": f"%CEL({_TOKEN_USAGE}.model)%",
    "llm_status": f"%CEL({_TOKEN_USAGE}.extraction_status)%",
    "llm_input": f"%CEL({_TOKEN_USAGE}.input_tokens)%",
    "llm_output": f"%CEL({_TOKEN_USAGE}.output_tokens)%",
    "llm_total": f"%CEL({_TOKEN_USAGE}.total_tokens)%",
    "llm_cached": f"%CEL({_TOKEN_USAGE}.input_token_details.cached_tokens)%",
    "llm_cache_creation": (
        f"%CEL({_TOKEN_USAGE}.input_token_details.cache_creation_tokens)%"
    ),
    "llm_tool_use": f"%CEL({_TOKEN_USAGE}.input_token_details.tool_use_tokens)%",
    "llm_reasoning": f"%CEL({_TOKEN_USAGE}.output_token_details.reasoning_tokens)%",
    "llm_provider_total": f"%CEL({_TOKEN_USAGE}.provider_total_tokens)%",
    "sse": f"%DYNAMIC_METADATA({SSE_NAMESPACE})%",  # a JSON object
    "sse_model": f"%DYNAMIC_METADATA({SSE_MODEL_NAMESPACE}:{SSE_MODEL}):256%",
    "usage_service": f"%RESP({USAGE_HEADERS['service']})%",
    "usage_model": f"%RESP({USAGE_HEADERS['model']})%",
    "usage_input": f"%RESP({USAGE_HEADERS['input_tokens']})%",
    "usage_output": f"%RESP({USAGE_HEADERS['output_tokens']})%",
    "usage_credits": f"%RESP({USAGE_HEADERS['credits']})%",
}

#: One JSON object per line, text only, for each request that authz let pass. The
#: names are those of the access log; `authz` writes them, `usage_sink` reads them.
ADMISSION_FIELDS: Final = (
    *("id", "start", "node", "incarnation", "route", "service", "method", "path"),
    *("user_id", "role", "reason"),
)
#: A segment of the journal; whoever gets its lock may take it away.
JOURNAL_SUFFIX: Final = ".journal"
