"""Where rows of a filter can be: never less than where they are."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest

from control.usage import Cursor, Sort, UsageFilter
from control.usage_days import is_long, narrowed, places, steps
from control.usage_plan import Span

_FIRST = date(2026, 3, 1)
_WHOLE = UsageFilter(
    start=datetime(2026, 3, 1, tzinfo=UTC), end=datetime(2026, 3, 11, tzinfo=UTC)
)


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=UTC)


def looked_at(
    known: dict[int, int],
    wanted: int = 10,
    sort: Sort = Sort.NEWEST,
    cursor: Cursor | None = None,
    chosen: UsageFilter = _WHOLE,
) -> list[list[Span]]:
    days = {_FIRST + timedelta(days=day - 1): rows for day, rows in known.items()}
    return list(steps(places(chosen, cursor, sort, days), wanted))


def test_days_without_a_row_are_left_out() -> None:
    known = dict.fromkeys(range(1, 11), 0) | {2: 3, 3: 3, 7: 1}

    assert looked_at(known) == [[(at(2), at(4)), (at(7), at(8))]]


def test_a_step_ends_where_it_may_have_all_rows_and_the_next_may_have_twice() -> None:
    known = dict.fromkeys(range(1, 11), 5)

    assert looked_at(known) == [
        [(at(9), at(11))],
        [(at(5), at(9))],
        [(at(1), at(5))],
    ]
    assert looked_at(known, sort=Sort.OLDEST)[0] == [(at(1), at(3))]


def test_what_nobody_knows_is_looked_at_alone_whatever_is_around_it() -> None:
    known = {1: 0, 2: 1, 3: 1, 8: 0, 9: 1, 10: 1}

    assert looked_at(known) == [[(at(9), at(11))], [(at(4), at(8))], [(at(2), at(4))]]


def test_when_nothing_is_known_everything_is_looked_at() -> None:
    (((first, end),),) = looked_at({}, chosen=UsageFilter())

    assert first.year == 1
    assert end.year == 9999


def test_when_no_day_has_a_row_nothing_is_looked_at() -> None:
    assert looked_at(dict.fromkeys(range(1, 11), 0)) == []


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (Sort.NEWEST, [(at(1), at(5, 6) + timedelta(microseconds=1))]),
        (Sort.OLDEST, [(at(5, 6), at(11))]),
    ],
)
def test_only_what_is_behind_the_cursor_is_looked_at(
    sort: Sort, expected: list[Span]
) -> None:
    cursor = Cursor(at(5, 6), UUID(int=1))

    assert looked_at(dict.fromkeys(range(1, 11), 1), 100, sort, cursor) == [expected]


def test_steps_touch_and_do_not_overlap() -> None:
    known = {day: day for day in range(1, 11)}
    spans = [one for step in looked_at(known, 3) for one in step][::-1]

    assert all(one[1] == after[0] for one, after in pairwise(spans))
    assert (spans[0][0], spans[-1][1]) == (at(1), at(11))


def test_of_a_day_that_is_cut_nobody_knows_how_many_rows_are_left() -> None:
    cursor = Cursor(at(5, 6), UUID(int=1))
    (first, *_) = looked_at(dict.fromkeys(range(1, 11), 10), 10, cursor=cursor)

    assert first == [(at(4), at(5, 6) + timedelta(microseconds=1))]


def test_spans_are_narrowed_to_the_hours_that_have_rows() -> None:
    spans = [(at(1), at(3)), (at(5), at(6) + timedelta(minutes=20))]

    assert narrowed(spans, [at(1, 4), at(1, 5), at(4), at(6)]) == [
        (at(1, 4), at(1, 6)),
        (at(6), at(6) + timedelta(minutes=20)),
    ]
    assert is_long(spans)
    assert not is_long(spans[:1])
