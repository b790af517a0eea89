"""What `/openapi.json` says of sums: parameters, the summary, examples."""

from typing import Any, Final

from control import summary
from control.periods import Unit
from control.routers.described import Shown, example, parameter, parameters
from control.usage_totals import ORDERS

MEASURED: Final[dict[str, Any]] = {
    "requests": 1200,
    "errors": 12,
    "tokens": 480_000,
    "inputTokens": 300_000,
    "outputTokens": 180_000,
    "cachedTokens": 40_000,
    "reasoningTokens": 0,
    "credits": 960,
    "errorRate": 0.01,
    "averageMs": 412.5,
    "adjustments": {"tokens": 0, "credits": -40},
}
RANGE: Final = {
    "start": "2026-11-01T00:00:00Z",
    "end": "2026-11-03T00:00:00Z",
    "timeZone": "UTC",
}


class Adjustments(Shown):
    """Corrections, which the figures beside them include."""

    tokens: int
    credits: int


class Measured(Shown):
    """Sums of some rows; `errors` are answers of status 400 and above."""

    requests: int
    errors: int
    tokens: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    credits: int
    error_rate: float | None
    average_ms: float | None
    adjustments: Adjustments


class MeasuredPeriod(Measured):
    """`end` is excluded."""

    start: str
    end: str


class Range(Shown):
    """`end` is excluded."""

    start: str
    end: str
    time_zone: str


class Other(Measured):
    """Of the groups that are not shown; `groups` null: they were not counted."""

    groups: int | None
    periods: list[MeasuredPeriod] | None


class Item(Measured):
    """A group: of the keys those are there that `groupBy` names."""

    user_id: str | None = None
    service: str | None = None
    model: str | None = None
    route: str | None = None
    status_class: int | None = None
    periods: list[MeasuredPeriod] | None


class Summary(Shown):
    """The answer of /api/usage/summary."""

    range: Range
    group_by: list[str]
    sort: str
    includes_adjustments: bool
    totals: Measured
    periods: list[MeasuredPeriod] | None
    items: list[Item]
    other: Other | None
    is_from_cache: bool
    complete_through: str | None


RANGE_PARAMETERS: Final = (
    parameter("userId", "Whose usage; only what the caller may see", "u-1"),
    parameter("service", "Of this service only", "openai"),
    parameter("model", "Of this model only", "gpt-4o"),
    parameter("route", "Of this route only", "mcp"),
    parameter("statusClass", "First digit of the status", "2", enum=list("012345")),
    parameter(
        "startDate",
        "A day of `timeZone` or an instant, included; 30 days before the end",
        "2026-11-01",
    ),
    parameter(
        "endDate",
        "A day, included as a whole, or an instant, excluded; else the running hour's "
        "end",
        "2026-11-02",
    ),
    parameter("timeZone", "A name of the IANA database; UTC", "Europe/Berlin"),
)
SUMMARY_PARAMETERS: Final = parameters(
    *RANGE_PARAMETERS,
    parameter(
        "groupBy",
        "Some of "
        + ", ".join(summary.GROUPS)
        + f", with commas between; at most one of {', '.join(Unit)}",
        "service,day",
    ),
    parameter(
        *("sort", "Which groups come first", "credits"),
        enum=list(ORDERS),
        default=summary.DEFAULT_SORT,
    ),
    parameter(
        "limit",
        "Groups that are shown; `other` tells what the rest adds up to",
        20,
        type="integer",
        minimum=1,
        maximum=summary.MAX_LIMIT,
        default=summary.DEFAULT_LIMIT,
    ),
    parameter(
        "offset",
        "Groups that are skipped",
        0,
        type="integer",
        minimum=0,
        maximum=summary.MAX_OFFSET,
        default=0,
    ),
)
#: FastAPI leaves nulls out of an example; where one may be, this has a value.
PERIODS: Final = [
    {"start": "2026-11-01T00:00:00Z", "end": "2026-11-02T00:00:00Z", **MEASURED}
]
SUMMARY: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": Summary,
        **example(
            "Totals, the largest groups, and what the others add up to",
            {
                "range": RANGE,
                "groupBy": ["service", "day"],
                "sort": "credits",
                "includesAdjustments": True,
                "totals": MEASURED,
                "periods": PERIODS,
                "items": [
                    {
                        "service": "openai",
                        **MEASURED,
                        "periods": PERIODS,
                    }
                ],
                "other": {"groups": 3, **MEASURED, "periods": PERIODS},
                "isFromCache": False,
                "completeThrough": "2026-11-02T23:59:58.120000Z",
            },
        )[200],
    }
}
