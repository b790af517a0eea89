"""A range is cut into the largest sums that there are, and each part is taken once."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from control.periods import Unit, starts
from control.usage_plan import Tiers, plan
from control.usage_totals import Cells


@pytest.mark.parametrize(
    ("dimensions", "has_latency", "where"),
    [
        (("service", "model"), False, ()),
        (("service",), True, ()),
        (("service",), False, (("route", ("r-1",)),)),
        (("user_id", "service"), False, ()),
    ],
)
def test_parts_of_days_know_of_one_dimension_only(
    dimensions: tuple[str, ...],
    has_latency: bool,  # noqa: FBT001 - a case
    where: Any,
) -> None:
    start = datetime(2026, 10, 1, 1, tzinfo=UTC)
    days = frozenset({start.date()})
    cells = Cells(
        start=start,
        end=start + timedelta(minutes=90),
        dimensions=dimensions,
        has_latency=has_latency,
        where=where,
    )

    found = plan(cells, Tiers(days, quarters=days))

    assert (found.short_hours, found.quarters) == ((), ())
    assert (len(found.hours), len(found.rows)) == (1, 1)


def test_a_plan_takes_the_largest_sums_that_fit() -> None:
    tiers = Tiers(
        frozenset(date(2026, 10, 1) + timedelta(days=at) for at in range(40)),
        months=frozenset({date(2026, 10, 1)}),
    )
    cells = Cells(
        start=datetime(2026, 9, 30, 22, 30, tzinfo=UTC),
        end=datetime(2026, 11, 2, 1, tzinfo=UTC),
    )

    found = plan(cells, tiers)

    assert found.months == (date(2026, 10, 1),)
    assert found.days == (date(2026, 11, 1),)
    assert found.hours == (
        (datetime(2026, 9, 30, 23, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)),
    )
    assert found.short_hours == (
        (datetime(2026, 11, 2, tzinfo=UTC), datetime(2026, 11, 2, 1, tzinfo=UTC)),
    )
    assert found.rows == ((cells.start, datetime(2026, 9, 30, 23, tzinfo=UTC)),)


@pytest.mark.parametrize("has_quarters", [True, False])
def test_nothing_reaches_over_the_edge_of_a_period(
    has_quarters: bool,  # noqa: FBT001 - a case
) -> None:
    zone = ZoneInfo("Asia/Kolkata")
    start, end = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 4, tzinfo=UTC)
    days = frozenset(date(2026, 10, 1) + timedelta(days=at) for at in range(3))
    periods = starts(start, end, Unit.DAY, zone, 10)

    quarters = days if has_quarters else frozenset[date]()
    found = plan(
        Cells(start=start, end=end, periods=periods), Tiers(days, quarters=quarters)
    )

    assert (found.days, found.hours) == ((), ())
    split, none = (
        (found.quarters, found.rows) if has_quarters else (found.rows, found.quarters)
    )
    assert none == ()
    assert [one.hour for one, _ in split] == [18, 18, 18]
    covered = sum(
        ((last - first) for first, last in (*found.short_hours, *split)), timedelta()
    )
    assert covered == end - start


def test_weeks_are_of_users_alone_and_of_no_longer_than_the_range() -> None:
    monday = date(2026, 10, 5)
    days = frozenset(monday + timedelta(days=at) for at in range(-2, 16))
    weeks = frozenset({monday, monday + timedelta(days=7)})
    start = datetime(2026, 10, 4, tzinfo=UTC)
    users = Cells(start=start, end=start + timedelta(days=14), dimensions=("user_id",))
    by_service = Cells(
        start=users.start, end=users.end, dimensions=("user_id", "service")
    )

    found = plan(users, Tiers(days, weeks=weeks))
    others = plan(by_service, Tiers(days, weeks=weeks))

    assert found.weeks == (monday,)
    assert found.days == (
        date(2026, 10, 4),
        *(date(2026, 10, 12) + timedelta(days=at) for at in range(6)),
    )
    assert (others.weeks, len(others.days)) == ((), 14)


def test_a_day_of_which_most_is_asked_for_is_taken_without_the_rest() -> None:
    first, last = date(2026, 10, 1), date(2026, 10, 4)
    days = frozenset(first + timedelta(days=at) for at in range(4))
    start = datetime(2026, 10, 1, 5, 30, tzinfo=UTC)
    end = datetime(2026, 10, 4, 18, 10, tzinfo=UTC)

    found = plan(Cells(start=start, end=end), Tiers(days, quarters=days))
    before, after = found.without
    midnight, five = start.replace(hour=0, minute=0), start.replace(minute=0)
    nineteen = end.replace(hour=19, minute=0)

    assert found.days == (first, first + timedelta(days=1), date(2026, 10, 3), last)
    assert (found.hours, found.short_hours, found.quarters, found.rows) == ((),) * 4
    assert before.short_hours == ((midnight, five),)
    assert before.quarters == ((five, start),)
    assert after.short_hours == ((nineteen, nineteen + timedelta(hours=5)),)
    assert after.rows == ((end, nineteen),)
    assert found.all_rows() == [(end, nineteen)]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"is_closed": False}, id="a day that is not summed"),
        pytest.param({"hour": 11}, id="less than half of a day"),
        pytest.param({"periods": True}, id="periods: the rest may be of another one"),
    ],
)
def test_nothing_is_taken_away_where_that_is_wrong_or_more(
    change: dict[str, Any],
) -> None:
    given = {"is_closed": True, "hour": 18, "periods": False, **change}
    start = datetime(2026, 10, 1, tzinfo=UTC)
    end = datetime(2026, 10, 3, given["hour"], tzinfo=UTC)
    days = {date(2026, 10, 1), date(2026, 10, 2)}
    if given["is_closed"]:
        days.add(date(2026, 10, 3))
    periods = (start,) if given["periods"] else ()

    found = plan(Cells(start=start, end=end, periods=periods), Tiers(frozenset(days)))

    assert found.without == ()
    assert found.days == (date(2026, 10, 1), date(2026, 10, 2))
