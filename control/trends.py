"""What can be read from sums by hour: comparison, peaks, growth, anomalies. Pure.

The methods are simple on purpose and told in the answer.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from math import sqrt
from statistics import median
from typing import Any, Final
from zoneinfo import ZoneInfo

from control.parameters import shown
from runtime.contracts import LATENCY_EDGES_MS

HOUR: Final = timedelta(hours=1)
#: How many weeks back an hour is compared, and how many of them must be there.
BASELINE_WEEKS: Final = 8
_LEAST_WEEKS: Final = 4
_WEEKS_BACK: Final = [weeks * 7 * 1440 for weeks in range(1, BASELINE_WEEKS + 1)]
#: Scaled so that for normally distributed values the MAD is the standard deviation.
_MAD_SCALE: Final = 1.4826
THRESHOLD: Final = 5.0
MOST_ANOMALIES: Final = 50
WATCHED: Final = ("requests", "errors", "credits")
_PROJECTED_DAYS: Final = (7, 30, 90)
_LEAST_DAYS: Final = 7
_QUANTILES: Final = (0.5, 0.95, 0.99)

METHODS: Final[Mapping[str, str]] = {
    "comparison": "the range as long as this one that ends where this one starts; "
    "percent is null where it had nothing",
    "latency": "from histograms with the edges "
    + ", ".join(map(str, LATENCY_EDGES_MS))
    + " ms: straight between two edges; beyond the last edge, that edge",
    "peakHours": "average of requests by local hour of the day",
    "growth": "least squares over the local days that are whole and over; at least "
    f"{_LEAST_DAYS} of them",
    "capacity": "the busiest hour, as requests per second, grown like the line of "
    "growth",
    "anomalies": "robust z-score of an hour against the same hour of the week in the "
    f"{BASELINE_WEEKS} weeks before (at least {_LEAST_WEEKS} of them): distance from "
    f"the median, divided by the largest of {_MAD_SCALE} MAD, the median's square "
    f"root and 1; shown from {THRESHOLD:g}",
}


@dataclass(frozen=True, slots=True)
class Hour:
    """One whole hour (UTC)."""

    start: datetime
    values: Mapping[str, int]


def change(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Of each figure: how much more, and how much more in percent."""
    return {
        name: {
            "before": before[name],
            "absolute": now[name] - before[name],
            "percent": _percent(now[name] - before[name], before[name]),
        }
        for name in ("requests", "errors", "tokens", "credits")
    }


def _percent(part: float, whole: float) -> float | None:
    return round(100 * part / whole, 3) if whole else None


def quantiles(buckets: Sequence[int]) -> dict[str, float | None]:
    """p50, p95 and p99 in milliseconds; None: no calls."""
    return {f"p{share * 100:g}Ms": quantile(buckets, share) for share in _QUANTILES}


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """At most so many milliseconds took such a share of the calls."""
    until = list(accumulate(buckets))
    if not until or until[-1] == 0:
        return None
    wanted = share * until[-1]
    lows = (0, *LATENCY_EDGES_MS)
    for low, high, count, sum_ in zip(
        lows, LATENCY_EDGES_MS, buckets, until, strict=False
    ):
        if sum_ >= wanted and count:
            into = (wanted - (sum_ - count)) / count
            return round(low + (high - low) * max(0.0, into), 3)
    return float(LATENCY_EDGES_MS[-1])


def peak_hours(hours: Sequence[Hour], zone: ZoneInfo) -> dict[str, Any]:
    """The average of each local hour of the day, and the busiest hour of all."""
    found = defaultdict[int, list[int]](list)
    for one in hours:
        found[one.start.astimezone(zone).hour].append(one.values["requests"])
    by_hour = [
        {"hour": hour, "averageRequests": round(sum(values) / len(values), 3)}
        for hour, values in sorted(found.items())
    ]
    busiest = max(hours, key=lambda one: one.values["requests"], default=None)
    return {
        "byHourOfDay": by_hour,
        "busiest": None
        if busiest is None
        else {
            "start": shown(busiest.start),
            "requests": busiest.values["requests"],
            "requestsPerSecond": round(busiest.values["requests"] / 3600, 6),
        },
    }


@dataclass(frozen=True, slots=True)
class Line:
    """y = intercept + slope x; `fit` is R²."""

    slope: float
    intercept: float
    fit: float

    def at(self, x: float) -> float:
        return self.intercept + self.slope * x


def line(values: Sequence[float]) -> Line:
    """By least squares, for x = 0, 1, 2, …; at least two values."""
    mean_x, mean_y = (len(values) - 1) / 2, sum(values) / len(values)
    spread = sum((x - mean_x) ** 2 for x in range(len(values)))
    slope = sum((x - mean_x) * (y - mean_y) for x, y in enumerate(values)) / spread
    found = Line(slope, mean_y - slope * mean_x, 0.0)
    total = sum((y - mean_y) ** 2 for y in values)
    left = sum((y - found.at(x)) ** 2 for x, y in enumerate(values))
    return Line(slope, found.intercept, 1 - left / total if total else 1.0)


def growth(
    days: Sequence[Mapping[str, int]], busiest_per_s: float | None
) -> dict[str, Any] | None:
    """The line through daily totals, and where it leads; None: too few days."""
    if len(days) < _LEAST_DAYS:
        return None
    lines = {
        name: line([day[name] for day in days])
        for name in ("requests", "tokens", "credits")
    }
    last = len(days) - 1
    return {
        "days": len(days),
        **{
            name: {
                "perDay": round(one.slope, 3),
                "percentPerDay": _percent(
                    one.slope, sum(d[name] for d in days) / len(days)
                ),
                "fit": round(one.fit, 4),
            }
            for name, one in lines.items()
        },
        "projection": [
            {
                "days": ahead,
                **{
                    name: round(
                        sum(max(0.0, one.at(last + at)) for at in range(1, ahead + 1))
                    )
                    for name, one in lines.items()
                },
                "peakRequestsPerSecond": _grown(
                    busiest_per_s, lines["requests"], last, ahead
                ),
            }
            for ahead in _PROJECTED_DAYS
        ],
    }


def _grown(now: float | None, requests: Line, last: int, ahead: int) -> float | None:
    fitted = requests.at(last)
    if now is None or fitted <= 0:
        return None
    return round(now * max(0.0, requests.at(last + ahead)) / fitted, 6)


def anomalies(
    hours: Sequence[Hour], first: datetime, end: datetime, zone: ZoneInfo
) -> list[dict[str, Any]]:
    """Hours from `first` until `end` that are far from those of the weeks before.

    `hours` have the weeks before, too; what is before the first call is not known.
    """
    began = next((one.start for one in hours if one.values["requests"]), None)
    if began is None:
        return []
    # By local time: the same hour of the week also where clocks were changed since.
    known = {_local_minute(one.start, zone): one for one in hours if one.start >= began}
    found = []
    for minute, one in known.items():
        if not first <= one.start <= end - HOUR:
            continue
        weeks = (known.get(minute - back) for back in _WEEKS_BACK)
        before = [week.values for week in weeks if week is not None]
        if len(before) >= _LEAST_WEEKS:
            found += [
                evidence
                for name in WATCHED
                if (evidence := _judged(name, one.start, one.values, before))
                is not None
            ]
    found.sort(key=lambda one: (-abs(one["score"]), one["start"], one["metric"]))
    return found[:MOST_ANOMALIES]


def _local_minute(at: datetime, zone: ZoneInfo) -> int:
    """Of the calendar's minutes there, counted through."""
    local = at.astimezone(zone)
    return local.toordinal() * 1440 + local.hour * 60 + local.minute


def _spread(middle: float) -> float:
    """At least so far apart are counts by chance."""
    return max(sqrt(max(0.0, middle)), 1.0)


def _judged(
    name: str,
    at: datetime,
    values: Mapping[str, int],
    before: Sequence[Mapping[str, int]],
) -> dict[str, Any] | None:
    value, samples = values[name], [one[name] for one in before]
    least = min(samples)
    if max(value, *samples) - min(value, least) < THRESHOLD * _spread(least):
        return None  # wherever the median is; so it is with most
    middle = median(samples)
    floor = _spread(middle)
    if abs(value - middle) < THRESHOLD * floor:
        return None
    deviation = median(abs(one - middle) for one in samples)
    score = (value - middle) / max(_MAD_SCALE * deviation, floor)
    if abs(score) < THRESHOLD:
        return None
    return {
        "start": shown(at),
        "metric": name,
        "value": value,
        "score": round(score, 3),
        "median": middle,
        "medianAbsoluteDeviation": deviation,
        "samples": samples,
    }
