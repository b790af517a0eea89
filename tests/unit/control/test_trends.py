"""What is read from sums by hour: comparison, percentiles, growth, anomalies."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from control.analytics import analyse, parse_query
from control.parameters import BadParameters
from control.trends import (
    Hour,
    anomalies,
    change,
    growth,
    line,
    peak_hours,
    quantile,
    quantiles,
)
from control.usage_totals import MemoryTotals

#: A Sunday; Berlin's clocks went back on 25 October.
END = datetime(2026, 11, 22, tzinfo=UTC)
HOUR = timedelta(hours=1)
UTC_ZONE, BERLIN = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin")


def hours(weeks: int, **special: int) -> list[Hour]:
    """100 requests an hour, 60 in odd ones; `special`: requests by hours before END."""
    found = []
    for back in range(weeks * 168, 0, -1):
        requests = special.get(f"h{back}", 60 if back % 2 else 100)
        values = {"requests": requests, "errors": 1, "credits": 5}
        found.append(Hour(END - back * HOUR, values))
    return found


def test_a_change_from_nothing_has_no_percent() -> None:
    now = {"requests": 15, "errors": 1, "tokens": 0, "credits": 5}
    before = {"requests": 10, "errors": 0, "tokens": 0, "credits": 20}

    found = change(now, before)

    assert found["requests"] == {"before": 10, "absolute": 5, "percent": 50.0}
    assert found["errors"] == {"before": 0, "absolute": 1, "percent": None}
    assert found["credits"]["percent"] == -75.0


def test_a_percentile_is_read_straight_between_two_edges() -> None:
    buckets = [0] * 16
    buckets[5], buckets[6] = 50, 50  # 20 to 50 ms, 50 to 100 ms

    assert quantile(buckets, 0.25) == 35.0
    assert quantile(buckets, 0.5) == 50.0
    assert quantile(buckets, 0.75) == 75.0


def test_beyond_the_last_edge_a_percentile_is_that_edge() -> None:
    assert quantile([0] * 15 + [3], 0.5) == 60_000.0


def test_without_calls_there_is_no_percentile() -> None:
    assert quantiles([0] * 16) == {"p50Ms": None, "p95Ms": None, "p99Ms": None}


def test_a_line_through_points_of_a_line_is_that_line() -> None:
    found = line([3.0, 5.0, 7.0, 9.0])

    assert (found.slope, found.intercept, found.fit) == (2.0, 3.0, 1.0)


def test_growth_goes_on_as_the_line_does() -> None:
    days = [{"requests": 100 + 10 * at, "tokens": 0, "credits": 7} for at in range(10)]

    found = growth(days, busiest_per_s=2.0)

    assert found is not None
    assert found["requests"]["perDay"] == 10.0
    week = found["projection"][0]
    assert week["requests"] == sum(100 + 10 * at for at in range(10, 17))
    assert (week["tokens"], week["credits"]) == (0, 49)
    assert week["peakRequestsPerSecond"] == pytest.approx(2.0 * 260 / 190, abs=1e-6)


def test_of_a_few_days_no_growth_is_told() -> None:
    assert growth([{"requests": 1, "tokens": 1, "credits": 1}] * 6, None) is None


def test_what_shrinks_is_not_projected_below_zero() -> None:
    days = [{"requests": 90 - 10 * at, "tokens": 0, "credits": 0} for at in range(9)]

    found = growth(days, busiest_per_s=1.0)

    assert found is not None
    assert found["projection"][2]["requests"] == 0
    assert found["projection"][2]["peakRequestsPerSecond"] == 0.0


def test_an_hour_unlike_those_of_the_weeks_before_is_told_with_them() -> None:
    found = anomalies(hours(9, h30=900), END - timedelta(days=7), END, UTC_ZONE)

    assert [(one["start"], one["metric"]) for one in found] == [
        ("2026-11-20T18:00:00Z", "requests")
    ]
    assert found[0]["value"] == 900
    assert found[0]["median"] == 100
    assert found[0]["samples"] == [100] * 8
    assert found[0]["score"] == 80.0


def test_an_hour_is_compared_with_the_same_local_hour() -> None:
    """Calls at 9 in Berlin are at 7 UTC before the clocks go back, at 8 UTC after."""
    found = []
    for back in range(9 * 168, 0, -1):
        at = END - back * HOUR
        requests = 1000 if at.astimezone(BERLIN).hour == 9 else 10
        found.append(Hour(at, {"requests": requests, "errors": 0, "credits": 0}))

    first = END - timedelta(days=7)

    assert anomalies(found, first, END, BERLIN) == []
    assert anomalies(found, first, END, UTC_ZONE) != []


@pytest.mark.parametrize("weeks", [1, 4], ids=["none before", "too few before"])
def test_without_enough_weeks_nothing_is_judged(weeks: int) -> None:
    found = anomalies(hours(weeks, h1=10_000), END - timedelta(days=7), END, UTC_ZONE)

    assert found == []


def test_what_was_before_the_first_call_is_not_known() -> None:
    silent = [
        Hour(one.start, dict.fromkeys(one.values, 0)) if at < 5 * 168 else one
        for at, one in enumerate(hours(8))
    ]

    assert anomalies(silent, END - timedelta(days=7), END, UTC_ZONE) == []


def test_peaks_are_told_by_local_hour() -> None:
    found = peak_hours(hours(1, h1=500), BERLIN)

    assert len(found["byHourOfDay"]) == 24
    assert found["byHourOfDay"][0]["hour"] == 0
    assert found["busiest"] == {
        "start": "2026-11-21T23:00:00Z",
        "requests": 500,
        "requestsPerSecond": round(500 / 3600, 6),
    }
    assert peak_hours([], BERLIN) == {"byHourOfDay": [], "busiest": None}


def a_row(at: datetime, **changes: Any) -> Mapping[str, Any]:
    row: dict[str, Any] = {
        "id": None,
        "created_at": at,
        "user_id": "u-1",
        "service": "core",
    }
    row |= {"model": None, "route": "r", "status": 200, "tokens": 3, "credits": 2}
    return {**row, "duration_ms": 40, **changes}


async def test_an_analysis_compares_with_the_range_before() -> None:
    rows = [a_row(END - at * HOUR) for at in range(1, 21)]
    rows += [a_row(END - timedelta(days=1, hours=at), status=500) for at in range(1, 6)]
    asked = {"startDate": "2026-11-21", "endDate": "2026-11-21", "interval": "hour"}
    query = parse_query(asked, END.timestamp() + 9999)

    async with MemoryTotals(rows).snapshot() as snapshot:
        found = await analyse(snapshot, query, None)

    assert found["totals"]["requests"] == 20
    assert found["comparison"]["totals"]["errors"] == 5
    assert found["comparison"]["change"]["requests"]["percent"] == 300.0
    assert [one["requests"] for one in found["trend"]] == [0] * 4 + [1] * 20
    assert found["topUsers"][0]["userId"] == "u-1"
    assert found["byRoute"][0]["p50Ms"] == 35.0
    assert found["growth"] is None


async def test_who_sees_one_user_is_told_of_no_heavy_users() -> None:
    rows = [a_row(END - HOUR), a_row(END - HOUR, user_id="u-2")]
    query = parse_query({"endDate": "2026-11-21"}, END.timestamp())

    async with MemoryTotals(rows).snapshot() as snapshot:
        found = await analyse(snapshot, query, frozenset({"u-1"}))

    assert found["topUsers"] is None
    assert found["totals"]["requests"] == 1


async def test_the_hour_that_runs_is_no_anomaly_and_its_day_no_growth() -> None:
    """They are not over: what is missing of them is still to come."""
    rows = [a_row(END - timedelta(hours=at)) for at in range(24 * 70)]
    query = parse_query({"endDate": "2026-11-23"}, END.timestamp() + 60)

    async with MemoryTotals(rows).snapshot() as snapshot:
        found = await analyse(snapshot, query, None)

    assert found["anomalies"] == []
    assert found["growth"]["days"] == 28
    assert found["growth"]["requests"]["perDay"] == 0.0


@pytest.mark.parametrize(
    "asked",
    [
        {"interval": "year"},
        {"sort": "errors"},
        {"limit": "51"},
        {"groupBy": "day"},
        {"startDate": "2026-01-01", "endDate": "2026-11-01"},
        {"interval": "hour", "startDate": "2026-06-01", "endDate": "2026-11-01"},
    ],
)
def test_what_can_not_be_analysed_is_refused(asked: dict[str, str]) -> None:
    with pytest.raises(BadParameters):
        parse_query(asked, END.timestamp())
