"""Names that two processes must agree on, written once.

A name here is a promise between processes that are deployed apart: change its
meaning only together with every reader and writer.
"""

import hashlib
import re
from enum import StrEnum
from typing import Final
from urllib.parse import quote

# --- Errors the gateway itself makes -------------------------------------------


class ErrorCode(StrEnum):
    """`code` of the JSON error body; clients branch on it."""

    TOKEN_MISSING = "TOKEN_MISSING"
    TOKEN_INVALID = "TOKEN_INVALID"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    TOKEN_REVOKED = "TOKEN_REVOKED"
    FORBIDDEN = "FORBIDDEN"
    IP_BLOCKED = "IP_BLOCKED"
    ROUTE_NOT_FOUND = "ROUTE_NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    HEADERS_TOO_LARGE = "HEADERS_TOO_LARGE"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    BAD_REQUEST = "BAD_REQUEST"
    UPSTREAM_UNAVAILABLE = "UPSTREAM_UNAVAILABLE"
    UPSTREAM_TIMEOUT = "UPSTREAM_TIMEOUT"
    AUTH_UNAVAILABLE = "AUTH_UNAVAILABLE"


# --- The deployment -------------------------------------------------------------


class DecisionCalls(StrEnum):
    """How often Envoy asks before it forwards a limited request."""

    #: `authz` asks the limiter in its own process: `python -m sidecar`.
    ONE = "one"
    #: `authz`, then `ratelimit`: processes of their own.
    TWO = "two"


# --- HTTP headers ---------------------------------------------------------------

HEADER_REQUEST_ID: Final = "x-request-id"
HEADER_USER_ID: Final = "x-user-id"
HEADER_USER_ROLE: Final = "x-user-role"
#: The caller's address as the listener trusts it; set by Envoy for every request.
HEADER_CLIENT_ADDRESS: Final = "x-client-address"
HEADER_AUTHORIZATION: Final = "authorization"
HEADER_WEBSOCKET_PROTOCOL: Final = "sec-websocket-protocol"
HEADER_TRACE: Final = "traceparent"
HEADER_TRACE_STATE: Final = "tracestate"

RATELIMIT_LIMIT: Final = "RateLimit-Limit"
RATELIMIT_REMAINING: Final = "RateLimit-Remaining"
RATELIMIT_RESET: Final = "RateLimit-Reset"
RETRY_AFTER: Final = "Retry-After"

#: Response headers by which a trusted upstream reports its own usage.
USAGE_HEADERS: Final = {
    "service": "x-usage-service",
    "model": "x-usage-model",
    "input_tokens": "x-usage-input-tokens",
    "output_tokens": "x-usage-output-tokens",
    "credits": "x-usage-credits",
}

#: Removed from every request before anything reads it: the gateway sets these
#: itself, so a client's copy is a lie (Envoy: early header mutation).
STRIPPED_REQUEST_HEADERS: Final = (
    HEADER_USER_ID,
    HEADER_USER_ROLE,
    HEADER_REQUEST_ID,
    *USAGE_HEADERS.values(),
)

# --- Redis ----------------------------------------------------------------------

CONFIG_CHANNEL: Final = "cfg"
#: A hash of "service/instance": who registered, until when (control/registry.lua).
REGISTRY_KEY: Final = "registry"
#: Every key of the blacklist starts so; `authz` hears of all changes below it.
BLACKLIST_PREFIX: Final = "bl:"


#: A revocation must outlive the token's `exp` by this: the longest leeway, and the
#: time for which an expired token may still be exchanged (`allow_expired`).
REVOCATION_MARGIN_S: Final = 7 * 86_400 + 300


def blacklist_token_key(jti: str) -> str:
    """Exists while the token with this `jti` is revoked."""
    return f"bl:{jti}"


def blacklist_user_key(sub: str) -> str:
    """Holds a Unix time: tokens of `sub` issued before it are revoked."""
    return f"bl:user:{sub}"


#: A counter is hits by part of its window, of which there are so many
#: (ratelimit/window.py). A head, 26 bytes, says what a decision needs: how many bytes
#: an entry's hits take (1, 2, 4, or 8: a double), parts from the oldest one to the
#: newest (a byte), and as doubles the oldest one's index, the hits of all parts and
#: those of the newest. For every other part follows an entry, oldest first: its hits,
#: and a byte, parts from there to the next one. Low bytes are first.
RATE_LIMIT_PARTS: Final = 60
#: The scope of a role's limits; a route's is "route:" and its escaped id.
RATE_LIMIT_OF_ROLE: Final = "role"
_MAX_SUBJECT_CHARACTERS: Final = 64
#: What quoting leaves as it is: most names, and quoting takes 2 µs to find that out.
_is_plain: Final = re.compile(r"[A-Za-z0-9_.~-]{1,64}", re.ASCII).fullmatch


def rate_limit_key(subject: str, scope: str) -> str:
    """A sliding-window counter; the braces keep one caller's counters on one node."""
    return f"rl:{{{subject}}}:{scope}"


def rate_limit_user(user: str) -> str:
    """The subject that stands for a user, and for no other; of bounded length."""
    if _is_plain(user):
        return f"u:{user}"
    name = quote(user, safe="")
    if len(name) > _MAX_SUBJECT_CHARACTERS:
        # "#" is escaped above, so no other user can have such a name.
        name = "#" + hashlib.sha256(user.encode()).hexdigest()
    return f"u:{name}"


def rate_limit_of_route(route: str) -> str:
    """The scope of a route's own limits."""
    return f"route:{quote(route, safe='')}"


def rate_limit_scope(
    place: str, per_s: int, *, tokens: bool = False, shadow: bool = False
) -> str:
    """What one limit counts: of a role or route, requests or tokens, per seconds.

    A limit in shadow counts what it would admit, which is not what another admits.
    """
    kind = ":tokens" if tokens else ":shadow" if shadow else ""
    return f"{place}{kind}:{per_s}"


def config_key(service: str) -> str:
    """Holds the JSON document that `service` obeys; changes are announced on `cfg`."""
    return f"cfg:{service}"


# --- Envoy: ext_authz -----------------------------------------------------------

#: CheckRequest.attributes.context_extensions: the route's policy travels with it.
CONTEXT_ROUTE: Final = "route"
CONTEXT_AUTH: Final = "auth"
CONTEXT_ROLES: Final = "roles"  # comma separated; absent or empty = any role
CONTEXT_SERVICE: Final = "service"
#: "true" where the connection may outlive the request: it must end with the token.
CONTEXT_SESSION: Final = "session"
#: Where one call answers both questions (DecisionCalls.ONE), on limited routes: which
#: limits to ask for (LimitScope).
CONTEXT_LIMITS: Final = "limits"


class LimitScope(StrEnum):
    """Which limits a request is under before it passes."""

    REQUESTS = "requests"
    #: Token budgets, too: its answer will tell what it took.
    TOKENS = "tokens"


class AuthPolicy(StrEnum):
    """What a route asks of the caller."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    NONE = "none"
    #: As required, but the token may have expired not long ago: to get a new one.
    ALLOW_EXPIRED = "allow_expired"


#: Key of Envoy's node metadata that authz gets as labels of the destination; the
#: labels say which Envoy asks, and which of its lives this is.
NODE_LABELS: Final = "hubgate"
LABEL_NODE: Final = "node"
LABEL_INCARNATION: Final = "incarnation"

#: Namespace in which Envoy keeps what authz returned as dynamic metadata.
AUTHZ_NAMESPACE: Final = "envoy.filters.http.ext_authz"
METADATA_USER_ID: Final = "user_id"
METADATA_ROLE: Final = "role"
METADATA_REASON: Final = "reason"
#: Of the token, on routes with CONTEXT_SESSION; times are Unix seconds.
METADATA_TOKEN_ID: Final = "token_id"
METADATA_ISSUED_AT: Final = "issued_at"
METADATA_EXPIRES_AT: Final = "expires_at"

ROLE_ADMIN: Final = "admin"
ROLE_MANAGER: Final = "manager"
ROLE_GUEST: Final = "guest"

# --- Envoy: rate limit service --------------------------------------------------

RATE_LIMIT_DOMAIN: Final = "hubgate"
DESCRIPTOR_ROUTE: Final = "route"
DESCRIPTOR_ROLE: Final = "role"
DESCRIPTOR_USER: Final = "user"
DESCRIPTOR_ADDRESS: Final = "remote_address"
#: On routes whose answers tell their tokens: "check" before, "charge" (as many as
#: hits) when the answer has ended.
DESCRIPTOR_TOKENS: Final = "tokens"
TOKENS_CHECK: Final = "check"
TOKENS_CHARGE: Final = "charge"
#: Namespace in which Envoy keeps what ratelimit said of its decision, and the key of
#: the counters, as they were then: "limit;remaining;reset in s;rule", joined by "|".
#: Where one call answers both questions, authz says it, among its own.
RATELIMIT_NAMESPACE: Final = "envoy.filters.http.ratelimit"
METADATA_COUNTERS: Final = "counters"


def limit_counters(namespace: str) -> str:
    """The counters in Envoy's format; of the longest text that the ledger keeps."""
    return f"%DYNAMIC_METADATA({namespace}:{METADATA_COUNTERS}):1024%"


#: Counts nothing; the 429 body tells it to the client.
DESCRIPTOR_REQUEST_ID: Final = "request_id"

# --- Envoy: access log ----------------------------------------------------------

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
    # A JSON object; the space keeps it a text in the file log, too.
    "sse": f"%DYNAMIC_METADATA({SSE_NAMESPACE})% ",
    "sse_model": f"%DYNAMIC_METADATA({SSE_MODEL_NAMESPACE}:{SSE_MODEL}):256%",
    "usage_service": f"%RESP({USAGE_HEADERS['service']})%",
    "usage_model": f"%RESP({USAGE_HEADERS['model']})%",
    "usage_input": f"%RESP({USAGE_HEADERS['input_tokens']})%",
    "usage_output": f"%RESP({USAGE_HEADERS['output_tokens']})%",
    "usage_credits": f"%RESP({USAGE_HEADERS['credits']})%",
}

# --- The admission journal ------------------------------------------------------

#: One JSON object per line, text only, for each request that authz let pass. The
#: names are those of the access log; `authz` writes them, `usage_sink` reads them.
ADMISSION_FIELDS: Final = (
    *("id", "start", "node", "incarnation", "route", "service", "method", "path"),
    *("user_id", "role", "reason"),
)
#: A segment of the journal; whoever gets its lock may take it away.
JOURNAL_SUFFIX: Final = ".journal"

# --- PostgreSQL -----------------------------------------------------------------

TABLE_USAGE_LOGS: Final = "usage_logs"
TABLE_USAGE_HOURLY: Final = "usage_hourly"
TABLE_USAGE_HOURLY_TOTALS: Final = "usage_hourly_totals"
#: Sums of closed UTC days and months, by user and without: `usage_sink/tiers.py`.
TABLE_USAGE_DAILY: Final = "usage_daily"
TABLE_USAGE_MONTHLY: Final = "usage_monthly"
TABLE_USAGE_DAILY_TOTALS: Final = "usage_daily_totals"
TABLE_USAGE_MONTHLY_TOTALS: Final = "usage_monthly_totals"
#: Sums of the parts of closed UTC days (`usage_sink/parts.py`), and of weeks by user.
TABLE_USAGE_PARTS: Final = "usage_parts"
TABLE_USAGE_USER_PARTS: Final = "usage_user_parts"
TABLE_USAGE_WEEKLY: Final = "usage_weekly"
#: PostgreSQL's own sum of bigint is numeric, which is slow where groups are many.
FUNCTION_USAGE_SUM: Final = "usage_sum"
TABLE_USAGE_TIERS: Final = "usage_tiers"
TABLE_USAGE_MINUTES: Final = "usage_minutes"
TABLE_USAGE_WATERMARKS: Final = "usage_watermarks"
TABLE_USAGE_ADJUSTMENTS: Final = "usage_adjustments"
TABLE_USAGE_ARCHIVES: Final = "usage_archives"
TABLE_USAGE_CHAINS: Final = "usage_chains"
TABLE_USAGE_SEALS: Final = "usage_seals"
TABLE_CONFIG_REVISIONS: Final = "config_revisions"
TABLE_AUDIT_LOG: Final = "audit_log"
TABLE_ALERT_RULES: Final = "alert_rules"
TABLE_ALERT_STATES: Final = "alert_states"
TABLE_ALERT_OUTBOX: Final = "alert_outbox"
TABLE_USAGE_PSEUDONYMS: Final = "usage_pseudonyms"

#: Upper edges of the latency buckets, in milliseconds; one more bucket is open.
LATENCY_EDGES_MS: Final = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(1000, 2000, 5000, 10_000, 30_000, 60_000),
)
#: Columns of the tables of sums: calls that took at most so long, and longer than the
#: edge before.
LATENCY_BUCKETS: Final = tuple(f"ms_{edge}" for edge in (*LATENCY_EDGES_MS, "more"))

#: Columns of the tables of sums that are added up.
USAGE_SUMS: Final = (
    *("requests", "errors", "tokens", "input_tokens", "output_tokens"),
    *("cached_tokens", "reasoning_tokens", "credits", "duration_ms"),
)

#: `format` of the manifest of an exported file: control makes it, and it is read by
#: `hubgate usage verify`.
USAGE_EXPORT_FORMAT: Final = "hubgate-usage-export/1"

# --- The ledger's vocabulary ----------------------------------------------------


class UsageSource(StrEnum):
    """Where a row's token counts come from."""

    PROVIDER = "provider"  # the provider's own answer, read inside Envoy
    HEADER = "header"  # x-usage-* response headers of a trusted upstream
    REPORTED = "reported"  # by a trusted service, through UsageIngest
    PARTIAL = "partial"  # the answer was cut or unreadable: a lower bound
    ABSENT = "absent"  # nothing was said; tokens are 0 and mean "unknown"


class Outcome(StrEnum):
    """Who is answerable for the end of a request."""

    OK = "ok"
    CLIENT_ERROR = "client_error"
    DENIED = "denied"  # 401 or 403 by authz
    LIMITED = "limited"  # 429 by the gateway, not by an upstream
    UPSTREAM_ERROR = "upstream_error"
    ABORTED = "aborted"  # the client went away
    GATEWAY_ERROR = "gateway_error"
    #: Admitted, and Envoy was killed before it could say how it ended.
    UNSETTLED = "unsettled"


class Pricing(StrEnum):
    """How a row's credits came about."""

    PRICED = "priced"  # by the price book; `price_version` says which
    REPORTED = "reported"  # the upstream said how many credits it took
    UNPRICED = "unpriced"  # AI usage that no price covers: to be re-rated
    FREE = "free"  # not an AI call
