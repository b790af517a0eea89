"""What `/openapi.json` says of sums: parameters, answers, examples."""

from typing import Any, Final

from control import analytics, summary, trends
from control.periods import Unit
from control.routers.described import Shown, example, parameter, parameters
from control.usage_totals import ORDERS

_MEASURED: Final[dict[str, Any]] = {
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
_RANGE: Final = {
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
    parameter("sort", "Which groups come first", "credits", enum=list(ORDERS)),
    parameter(
        "limit",
        "Groups that are shown; `other` tells what the rest adds up to",
        20,
        type="integer",
        minimum=1,
        maximum=summary.MAX_LIMIT,
    ),
    parameter(
        "offset",
        "Groups that are skipped",
        0,
        type="integer",
        minimum=0,
        maximum=summary.MAX_OFFSET,
    ),
)
#: FastAPI leaves nulls out of an example; where one may be, this has a value.
_PERIODS: Final = [
    {"start": "2026-11-01T00:00:00Z", "end": "2026-11-02T00:00:00Z", **_MEASURED}
]
SUMMARY: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": Summary,
        **example(
            "Totals, the largest groups, and what the others add up to",
            {
                "range": _RANGE,
                "groupBy": ["service", "day"],
                "sort": "credits",
                "includesAdjustments": True,
                "totals": _MEASURED,
                "periods": _PERIODS,
                "items": [{"service": "openai", **_MEASURED, "periods": _PERIODS}],
                "other": {"groups": 3, **_MEASURED, "periods": _PERIODS},
                "isFromCache": False,
                "completeThrough": "2026-11-02T23:59:58.120000Z",
            },
        )[200],
    }
}


class Change(Shown):
    """Against the range before; `percent` null: it had nothing."""

    before: int
    absolute: int
    percent: float | None


class Comparison(Shown):
    """The range as long as this one that ends where this one starts."""

    start: str
    end: str
    totals: Measured
    change: dict[str, Change]


class HourOfDay(Shown):
    """A local hour, over all days of the range."""

    hour: int
    average_requests: float


class Busiest(Shown):
    """The hour with the most requests."""

    start: str
    requests: int
    requests_per_second: float


class PeakHours(Shown):
    """When most is asked."""

    by_hour_of_day: list[HourOfDay]
    busiest: Busiest | None


class Slope(Shown):
    """A line through daily totals; `fit` is R²."""

    per_day: float
    percent_per_day: float | None
    fit: float


class Projection(Shown):
    """What the next `days` would bring if the line went on."""

    days: int
    requests: int
    tokens: int
    credits: int
    peak_requests_per_second: float | None


class Growth(Shown):
    """Lines through the totals of so many whole local days."""

    days: int
    requests: Slope
    tokens: Slope
    credits: Slope
    projection: list[Projection]


class Anomaly(Shown):
    """An hour that is far from the same hour of the weeks before, and those."""

    start: str
    metric: str
    value: int
    score: float
    median: float
    median_absolute_deviation: float
    samples: list[int]


class Ranked(Measured):
    """Of the keys those are there by which is ranked."""

    user_id: str | None = None
    service: str | None = None
    model: str | None = None


class Performance(Shown):
    """Errors and latency; null: no calls."""

    service: str
    route: str | None = None
    requests: int
    errors: int
    error_rate: float | None
    average_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class Analytics(Shown):
    """The answer of /api/usage/analytics; `topUsers` null: the caller sees one only."""

    range: Range
    interval: str
    includes_adjustments: bool
    methods: dict[str, str]
    totals: Measured
    comparison: Comparison
    trend: list[MeasuredPeriod]
    peak_hours: PeakHours
    growth: Growth | None
    anomalies: list[Anomaly]
    top_users: list[Ranked] | None
    top_services: list[Ranked]
    top_models: list[Ranked]
    by_service: list[Performance]
    by_route: list[Performance]
    is_from_cache: bool
    complete_through: str | None


ANALYTICS_PARAMETERS: Final = parameters(
    *RANGE_PARAMETERS,
    parameter("interval", "Of the trend", "day", enum=list(Unit)),
    parameter("sort", "What makes large", "credits", enum=list(analytics.SORTS)),
    parameter(
        "limit",
        "How many of the largest",
        10,
        type="integer",
        minimum=1,
        maximum=analytics.MAX_LIMIT,
    ),
)
_CHANGE: Final = {"before": 1000, "absolute": 200, "percent": 20.0}
_FAST: Final = {
    "requests": 1200,
    "errors": 12,
    "errorRate": 0.01,
    "averageMs": 412.5,
    "p50Ms": 310.0,
    "p95Ms": 1450.0,
    "p99Ms": 4100.0,
}
_SLOPE: Final = {"perDay": 12.5, "percentPerDay": 1.04, "fit": 0.81}
ANALYTICS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": Analytics,
        **example(
            "What happened, compared with before and what may come",
            {
                "range": _RANGE,
                "interval": "day",
                "includesAdjustments": True,
                "methods": dict(trends.METHODS),
                "totals": _MEASURED,
                "comparison": {
                    "start": "2026-10-30T00:00:00Z",
                    "end": "2026-11-01T00:00:00Z",
                    "totals": _MEASURED,
                    "change": {"requests": _CHANGE, "credits": _CHANGE},
                },
                "trend": _PERIODS,
                "peakHours": {
                    "byHourOfDay": [{"hour": 14, "averageRequests": 90.5}],
                    "busiest": {
                        "start": "2026-11-02T14:00:00Z",
                        "requests": 180,
                        "requestsPerSecond": 0.05,
                    },
                },
                "growth": {
                    "days": 30,
                    "requests": _SLOPE,
                    "tokens": _SLOPE,
                    "credits": _SLOPE,
                    "projection": [
                        {
                            "days": 7,
                            "requests": 8600,
                            "tokens": 3_500_000,
                            "credits": 6900,
                            "peakRequestsPerSecond": 0.06,
                        }
                    ],
                },
                "anomalies": [
                    {
                        "start": "2026-11-02T03:00:00Z",
                        "metric": "errors",
                        "value": 60,
                        "score": 14.5,
                        "median": 2,
                        "medianAbsoluteDeviation": 1,
                        "samples": [2, 1, 3, 2],
                    }
                ],
                "topUsers": [{"userId": "u-1", **_MEASURED}],
                "topServices": [{"service": "openai", **_MEASURED}],
                "topModels": [{"service": "openai", "model": "gpt-4o", **_MEASURED}],
                "byService": [{"service": "openai", **_FAST}],
                "byRoute": [{"service": "openai", "route": "mcp", **_FAST}],
                "isFromCache": False,
                "completeThrough": "2026-11-02T23:59:58.120000Z",
            },
        )[200],
    }
}
