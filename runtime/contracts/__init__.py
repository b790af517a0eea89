"""Names that two processes must agree on, written once.

A name here is a promise between processes that are deployed apart: change its
meaning only together with every reader and writer.
"""

from enum import StrEnum
from itertools import pairwise
from typing import Final

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


#: Settings of which any tells how tokens are verified.
KEY_VARIABLES: Final = (
    "HUBGATE_JWT_SECRET_FILE",
    "HUBGATE_JWT_PEM_FILES",
    "HUBGATE_JWKS_FILE",
    "HUBGATE_JWKS_URL",
    "HUBGATE_JWT_ISSUERS_FILE",
)

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

# --- Envoy: ext_authz -----------------------------------------------------------

#: The one entry of CheckRequest.attributes.context_extensions: the route's policy, as
#: JSON. Each entry costs Envoy and authz more than the whole text does.
CONTEXT_POLICY: Final = "policy"
#: Its members, all of them texts.
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
#: Closes the watermark of a node of which nothing was heard for so long: the ledger's
#: own, for control. A node that lives is heard every second.
FUNCTION_USAGE_CLOSE_NODE: Final = "usage_close_node"
NODE_SILENT_S: Final = 60
TABLE_USAGE_ADJUSTMENTS: Final = "usage_adjustments"
TABLE_USAGE_ARCHIVES: Final = "usage_archives"
#: Of its days: whose rows are only in files.
USAGE_DAY_IS_AWAY: Final = "dropped_at IS NOT NULL AND restored_at IS NULL"
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
#: Longer than the first and at most the second; `duration_ms` holds no more.
LATENCY_RANGES_MS: Final = dict(
    zip(LATENCY_BUCKETS, pairwise((-1, *LATENCY_EDGES_MS, 2**31 - 1)), strict=True)
)
#: By what the tables of sums sum, and what that is of a row `r` of the ledger.
USAGE_DIMENSIONS: Final = {
    "user_id": "coalesce(r.user_id, '')",
    "service": "r.service",
    "model": "coalesce(r.model, '')",
    "route": "coalesce(r.route, '')",
    "status_class": "(r.status / 100)::smallint",
}

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


#: Of one request: `usage_logs.credits` holds no more, and a larger charge is cut.
MOST_CREDITS: Final = 2**31 - 1


class Pricing(StrEnum):
    """How a row's credits came about."""

    PRICED = "priced"  # by the price book; `price_version` says which
    REPORTED = "reported"  # the upstream said how many credits it took
    UNPRICED = "unpriced"  # AI usage that no price covers: to be re-rated
    FREE = "free"  # not an AI call
