"""From which tables a question about sums is answered. Pure.

Sums are kept by hour, by UTC day and by UTC month (`usage_sink/tiers.py`), of weeks by
user alone, and of closed days by hour and quarter of an hour without most dimensions
(`parts.py` there).
A range is cut into as few of them as can be; nothing may reach over the edge of a
period that is asked for. What is left, less than an hour at each edge, is summed from
the rows. Of a day at an edge of which most is asked for, the whole is taken and the
rest of it taken away. So an answer is exact for every range and every time zone.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from control.periods import ceil_hour, floor_hour
from control.usage_totals import USER, Cells

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_QUARTER_MINUTES: Final = 15

Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Tiers:
    """First days of the UTC days, weeks and months whose sums are current.

    `quarters` are those of `days` that have sums by quarter of an hour, too.
    """

    days: frozenset[date] = frozenset()
    weeks: frozenset[date] = frozenset()
    months: frozenset[date] = frozenset()
    quarters: frozenset[date] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """A range, cut up; each part once. Spans exclude their end.

    `hours` are summed by all dimensions, `short_hours` and `quarters` by few. What
    `without` has is in the days and is to be taken away.
    """

    months: tuple[date, ...] = ()
    weeks: tuple[date, ...] = ()
    days: tuple[date, ...] = ()
    hours: tuple[Span, ...] = ()
    short_hours: tuple[Span, ...] = ()
    quarters: tuple[Span, ...] = ()
    rows: tuple[Span, ...] = ()
    without: tuple["Plan", ...] = ()

    def all_rows(self) -> list[Span]:
        """Of which spans the rows are read."""
        return [*self.rows, *(span for one in self.without for span in one.all_rows())]


def grain(cells: Cells) -> str | None:
    """Which of the sums by user hold the answer; None: none of them does."""
    others = cells.columns - {USER}
    if cells.has_latency or len(others) > 1:
        return None
    return next(iter(others), "user")


def part_grain(cells: Cells) -> str | None:
    """Which of the sums of parts of days hold the answer; None: none of them does."""
    found = grain(cells)
    if USER in cells.columns:
        return found if found == "user" else None
    return "all" if found == "user" else found


def plan(cells: Cells, tiers: Tiers) -> Plan:
    """From which tables `cells` are summed, when `tiers` are current."""
    if USER in cells.columns and grain(cells) is None:
        tiers = Tiers()
    if cells.columns != {USER} or part_grain(cells) is None:
        tiers = replace(tiers, weeks=frozenset())
    if cells.periods:  # what is taken away would be of another one
        return _cut_up(cells, tiers)
    start, end = _rounded(cells, tiers.days)
    wide = _cut_up(replace(cells, start=start, end=end), tiers)
    edges = ((start, cells.start), (cells.end, end))
    without = tuple(
        _cut_up(replace(cells, start=first, end=last), tiers)
        for first, last in edges
        if first < last
    )
    return replace(wide, without=without)


def _rounded(cells: Cells, days: frozenset[date]) -> Span:
    """The range, to the edges of days of which it has most."""
    start, end = cells.start, cells.end
    first, last = (instant(at.date()) for at in (start, end))
    if first + _DAY <= last:
        if start.date() in days and start - first < _DAY / 2:
            start = first
        if end.date() in days and end - last > _DAY / 2:
            end = last + _DAY
    return start, end


def _cut_up(cells: Cells, tiers: Tiers) -> Plan:
    short = frozenset[date]() if part_grain(cells) is None else tiers.days
    quarters = short & tiers.quarters
    start, end = ceil_hour(cells.start), floor_hour(cells.end)
    cuts = sorted(one for one in cells.periods if cells.start < one < cells.end)

    def is_whole(first: datetime, last: datetime) -> bool:
        at = bisect_right(cuts, first)
        return start <= first and last <= end and (at == len(cuts) or cuts[at] >= last)

    def is_of_quarters(span: Span) -> bool:
        within = cuts[bisect_right(cuts, span[0]) : bisect_left(cuts, span[1])]
        return span[0].date() in quarters and all(map(_is_quarter, (*span, *within)))

    split = sorted({floor_hour(one) for one in cuts if not _is_hour(one)})
    months, weeks, days, hours = _cut(start, end, tiers, is_whole)
    short_hours, hours = _parted(
        _without(hours, split), lambda one: one[0].date() in short
    )
    fine, rows = _parted(_pieces(cells, start, end, split), is_of_quarters)
    return Plan(
        months,
        weeks,
        days,
        hours=_merged(hours),
        short_hours=_merged(short_hours),
        quarters=_merged(fine),
        rows=_merged(rows),
    )


def _is_hour(at: datetime) -> bool:
    return not (at.minute or at.second or at.microsecond)


def _is_quarter(at: datetime) -> bool:
    return not (at.minute % _QUARTER_MINUTES or at.second or at.microsecond)


def _pieces(
    cells: Cells, start: datetime, end: datetime, split: Sequence[datetime]
) -> list[Span]:
    """What is no whole hour, or may not be taken as one; each within one hour."""
    if start > end:
        return [(cells.start, cells.end)]
    inside = [(one, one + _HOUR) for one in split if start <= one < end]
    edges = [(cells.start, start), (end, cells.end)]
    return sorted([*inside, *(one for one in edges if one[0] < one[1])])


def _cut(
    start: datetime,
    end: datetime,
    tiers: Tiers,
    is_whole: Callable[[datetime, datetime], bool],
) -> tuple[tuple[date, ...], tuple[date, ...], tuple[date, ...], list[Span]]:
    """Months, weeks, days, and hours of which no span is longer than its day."""

    def is_week(day: date) -> bool:
        """It does not take the first days of a month that could be taken whole."""
        month = _next_month(day)
        return month not in tiers.months or not (
            month < day + 7 * _DAY
            and is_whole(instant(month), instant(_next_month(month)))
        )

    sizes: tuple[tuple[frozenset[date], Callable[[date], date]], ...] = (
        (tiers.months, _next_month),
        (frozenset(filter(is_week, tiers.weeks)), lambda day: day + 7 * _DAY),
        (tiers.days, lambda day: day + _DAY),
    )
    found, hours = tuple(list[date]() for _ in sizes), list[Span]()
    at = start
    while at < end:
        day = at.date()
        for (known, after), taken in zip(sizes, found, strict=True):
            last = instant(after(day))
            if day in known and is_whole(instant(day), last):
                taken.append(day)
                break
        else:
            last = min(instant(day + _DAY), end)
            hours.append((at, last))
        at = last
    months, weeks, days = map(tuple, found)
    return months, weeks, days, hours


def _next_month(day: date) -> date:
    return (day.replace(day=28) + 4 * _DAY).replace(day=1)


def _without(spans: Iterable[Span], split: Sequence[datetime]) -> list[Span]:
    """Spans of whole hours without the hours of `split`."""
    left = []
    for first, last in spans:
        at = first
        for hour in split[bisect_left(split, first) : bisect_left(split, last)]:
            left.append((at, hour))
            at = hour + _HOUR
        left.append((at, last))
    return left


def _parted(
    spans: Iterable[Span], is_first: Callable[[Span], bool]
) -> tuple[list[Span], list[Span]]:
    found = list[Span](), list[Span]()
    for one in spans:
        found[0 if is_first(one) else 1].append(one)
    return found


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    found = list[Span]()
    for first, last in spans:
        if first == last:
            continue
        if found and found[-1][1] == first:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return tuple(found)


def instant(day: date) -> datetime:
    """The first instant of a UTC day."""
    return datetime.combine(day, time(), UTC)


def days_touched(start: datetime, end: datetime) -> list[date]:
    """The UTC days that have a part in a range."""
    first, last = start.date(), (end - timedelta(microseconds=1)).date()
    return [first + at * _DAY for at in range((last - first).days + 1)]
