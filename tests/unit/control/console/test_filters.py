from datetime import UTC, datetime
from itertools import pairwise

import pytest

from control.console.filters import PERIODS, Filters, read
from control.parameters import BadParameters

#: A Sunday evening in UTC, Monday morning in Auckland.
NOW = datetime(2026, 3, 29, 20, 30, tzinfo=UTC).timestamp()


def chosen(**parameters: str) -> Filters:
    return read(parameters, NOW)


def test_without_a_choice_it_is_the_last_seven_days_by_day() -> None:
    filters = chosen()

    assert filters.start == datetime(2026, 3, 23, tzinfo=UTC)
    assert filters.end == datetime(2026, 3, 29, 21, tzinfo=UTC)
    assert filters.granularity == "day"
    assert filters.measure == "credits"


def test_days_are_those_of_the_readers_time_zone_also_over_a_change_of_clocks() -> None:
    filters = chosen(timeZone="Europe/Berlin")

    # Clocks went forward on 29 March: the first midnight was still in winter time.
    assert filters.start.astimezone(UTC) == datetime(2026, 3, 22, 23, tzinfo=UTC)
    ahead = chosen(timeZone="Pacific/Auckland", period="month")
    assert ahead.start.astimezone(UTC) == datetime(2026, 2, 28, 11, tzinfo=UTC)


def test_the_last_day_of_a_choice_is_in_it() -> None:
    given = {"from": "2026-03-01", "to": "2026-03-29", "timeZone": "Europe/Berlin"}
    filters = chosen(period="custom", **given)

    assert filters.start.astimezone(UTC) == datetime(2026, 2, 28, 23, tzinfo=UTC)
    assert filters.end.astimezone(UTC) == datetime(2026, 3, 29, 22, tzinfo=UTC)
    assert (filters.first, filters.last) == ("2026-03-01", "2026-03-29")


def test_an_empty_field_was_left_alone() -> None:
    assert chosen(service="", user="", period="", width="") == chosen()


def test_longer_ranges_are_shown_in_longer_steps() -> None:
    def by(first: str) -> str:
        given = {"from": first, "to": "2026-03-29"}
        return chosen(period="custom", **given).granularity

    found = [
        by(day) for day in ("2026-03-29", "2026-02-01", "2025-09-01", "2020-01-01")
    ]
    assert found == ["hour", "day", "week", "month"]
    assert chosen(granularity="week").granularity == "week"


def test_every_period_ends_later_than_it_begins_and_says_no_more_than_asked() -> None:
    lengths = [
        chosen(period=one).end - chosen(period=one).start
        for one in ("24h", "7d", "30d", "90d")
    ]

    assert all(shorter < longer for shorter, longer in pairwise(lengths))
    for period in PERIODS:
        assert chosen(period=period).start < chosen(period=period).end
    assert set(chosen(period="24h").asked()) == {"startDate", "endDate"}


def test_what_it_is_narrowed_to_is_asked_of_the_api_by_its_names() -> None:
    asked = chosen(service="openai", model="gpt-4o", user="alice").asked(limit="5")

    assert asked["service"] == "openai"
    assert asked["model"] == "gpt-4o"
    assert asked["userId"] == "alice"
    assert asked["limit"] == "5"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("period", "year"),
        ("timeZone", "../../etc/passwd"),
        ("timeZone", "Middle/Earth"),
        ("from", "yesterday"),
        ("measure", "euros"),
        ("granularity", "minute"),
        ("width", "wide"),
        ("colour", "red"),
    ],
)
def test_a_bad_choice_is_named(name: str, value: str) -> None:
    with pytest.raises(BadParameters) as refused:
        chosen(**{name: value})

    assert [one.field for one in refused.value.problems] == [name]


def test_a_choice_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(BadParameters) as refused:
        chosen(period="custom", **{"from": "2026-03-29", "to": "2026-03-01"})

    assert [one.field for one in refused.value.problems] == ["to"]
