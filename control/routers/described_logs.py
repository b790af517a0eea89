"""What `/openapi.json` says of logs: parameters, answers, examples."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from control.routers.described import Shown, parameter, parameters
from control.usage import (
    COLUMNS,
    DEFAULT_LIMIT,
    MAX_LIMIT,
    MAX_OFFSET,
    Sort,
    camel,
)
from runtime.contracts import Outcome

_ITEM: Final[dict[str, Any]] = {
    "id": "0b0f6f1e-5d0c-4a55-9d3c-2f0b6a6f7c11",
    "userId": "u-1",
    "service": "openai",
    "model": "gpt-4o",
    "tokens": 1200,
    "credits": 3,
    "metadata": {"request": {"endpoint": "/api/mcp/openai/v1/chat/completions"}},
    "createdAt": "2026-01-31T08:00:00.541760Z",
    "status": 200,
    "outcome": "ok",
}
_TOTALS: Final = {
    "requests": 1,
    "errors": 0,
    "tokens": 1200,
    "inputTokens": 900,
    "outputTokens": 300,
    "cachedTokens": 0,
    "reasoningTokens": 0,
    "credits": 3,
    "durationMs": 812,
    "adjustedTokens": 0,
    "adjustedCredits": 0,
    "archivedDays": 0,
}


class LogItem(Shown):
    """A request; with `fields`, only those."""

    id: UUID | None = None
    user_id: str | None = None
    service: str | None = None
    model: str | None = None
    tokens: int | None = None
    credits: int | None = None
    metadata: dict[str, Any] | None = None
    created_at: datetime | None = None
    route: str | None = None
    method: str | None = None
    status: int | None = None
    outcome: str | None = None
    duration_ms: int | None = None
    bytes_received: int | None = None
    bytes_sent: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    usage_source: str | None = None
    pricing: str | None = None
    price_version: str | None = None
    role: str | None = None
    node: str | None = None
    recorded_at: datetime | None = None
    reasoning_tokens: int | None = None
    billable: bool | None = None


class LogTotals(Shown):
    """Of all that the filters choose, corrections included.

    Rows of `archived_days` days are in archives and not among them; the summary has
    them.
    """

    requests: int
    errors: int
    tokens: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    credits: int
    duration_ms: int
    adjusted_tokens: int
    adjusted_credits: int
    archived_days: int


class LogPage(Shown):
    """`totals` only with `aggregate=true`."""

    items: list[LogItem]
    next_cursor: str | None
    complete_through: datetime | None
    totals: LogTotals | None = None


#: Which rows: whose, and which of these.
WHOSE: Final = parameter("userId", "Whose rows; default: all that you may see.", "u-1")
FILTERS: Final = (
    parameter("service", "Of one service.", "openai"),
    parameter("model", "Of one model.", "gpt-4o"),
    parameter("status", "An HTTP status, or a class of them.", "5xx"),
    parameter(
        "outcome", "How it ended.", "limited", enum=[one.value for one in Outcome]
    ),
    parameter("startDate", "A day or an instant (UTC), included.", "2026-01-01"),
    parameter("endDate", "A day (included) or an instant (not).", "2026-01-31"),
)
_OTHERS: Final = (
    *FILTERS,
    parameter(
        *("limit", "Rows of a page.", 50),
        type="integer",
        minimum=1,
        maximum=MAX_LIMIT,
        default=DEFAULT_LIMIT,
    ),
    parameter(
        "cursor",
        "`nextCursor` of the page before.",
        "MTc2OTg0NjQwMDU0MTc2MC4wYjBmNmYxZTVkMGM0YTU1OWQzYzJmMGI2YTZmN2MxMQ",
    ),
    parameter(
        *("offset", "Rows to leave out; deeper pages go by cursor.", 0),
        type="integer",
        minimum=0,
        maximum=MAX_OFFSET,
        default=0,
    ),
    parameter(
        *("sort", "By time.", Sort.OLDEST.value),
        enum=[one.value for one in Sort],
        default=Sort.NEWEST.value,
    ),
    parameter(
        "fields",
        f"Some of {', '.join(map(camel, COLUMNS))}, with commas between.",
        "id,createdAt,credits",
    ),
    parameter("aggregate", "Totals, too.", "true", enum=["true", "false"]),
)
PARAMETERS: Final = parameters(WHOSE, *_OTHERS)
PARAMETERS_OF_USER: Final = parameters(*_OTHERS)
ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "A page of rows",
        "model": LogPage,
        "content": {
            "application/json": {
                "example": {
                    "items": [_ITEM],
                    "nextCursor": None,
                    "completeThrough": "2026-01-31T08:00:05Z",
                    "totals": _TOTALS,
                }
            }
        },
    }
}
