"""What `/openapi.json` says of analytics: parameters, answer, example."""

from typing import Any, Final

from control import analytics, trends
from control.periods import Unit
from control.routers.described import Shown, example, parameter, parameters
from control.routers.described_totals import (
    MEASURED,
    PERIODS,
    RANGE,
    RANGE_PARAMETERS,
    Measured,
    MeasuredPeriod,
    Range,
)


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
    parameter("interval", "Of the trend", "hour", enum=list(Unit), default=Unit.DAY),
    parameter(
        *("sort", "What makes large", "credits"),
        enum=list(analytics.SORTS),
        default=analytics.DEFAULT_SORT,
    ),
    parameter(
        "limit",
        "How many of the largest",
        10,
        type="integer",
        minimum=1,
        maximum=analytics.MAX_LIMIT,
        default=analytics.DEFAULT_LIMIT,
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
                "range": RANGE,
                "interval": "day",
                "includesAdjustments": True,
                "methods": dict(trends.METHODS),
                "totals": MEASURED,
                "comparison": {
                    "start": "2026-10-30T00:00:00Z",
                    "end": "2026-11-01T00:00:00Z",
                    "totals": MEASURED,
                    "change": {"requests": _CHANGE, "credits": _CHANGE},
                },
                "trend": PERIODS,
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
                "topUsers": [{"userId": "u-1", **MEASURED}],
                "topServices": [{"service": "openai", **MEASURED}],
                "topModels": [{"service": "openai", "model": "gpt-4o", **MEASURED}],
                "byService": [{"service": "openai", **_FAST}],
                "byRoute": [{"service": "openai", "route": "mcp", **_FAST}],
                "isFromCache": False,
                "completeThrough": "2026-11-02T23:59:58.120000Z",
            },
        )[200],
    }
}
