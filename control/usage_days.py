"""Where rows of a filter can be, by how many of them each day has. Pure.

Two filters that each have many rows may have few together. The sums of closed days say
of a day that none is there, or how many there are at most: so a page is looked for
where it is, in a few days.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import zip_longest
from typing import Final

from control.usage import Cursor, Sort, UsageFilter
from control.usage_plan import Span, instant

_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_LONG: Final = 2 * _DAY
#: Before and behind all rows.
_FIRST: Final = datetime(1, 1, 2, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 30, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Place:
    """`most` is how many rows are there at most; None: nobody knows."""

    span: Span
    most: int | None

    @property
    def is_whole(self) -> bool:
        """A day of which nothing is cut off."""
        return self.span[1] - self.span[0] == _DAY


def places(
    chosen: UsageFilter, cursor: Cursor | None, sort: Sort, known: Mapping[date, int]
) -> list[Place]:
    """Where rows behind `cursor` may be, in the order of `sort`.

    `known` says how many rows of `chosen` a day has at most.
    """
    first, end = chosen.start or _FIRST, chosen.end or _LAST
    if cursor is not None and sort is Sort.NEWEST:
        end = min(end, min(cursor.created_at, _LAST) + timedelta(microseconds=1))
    elif cursor is not None:
        first = max(first, cursor.created_at)
    found = [
        Place((max(first, start), min(end, last)), most)
        for (start, last), most in _calendar(known)
        if max(first, start) < min(end, last) and most != 0
    ]
    return found[::-1] if sort is Sort.NEWEST else found


def _calendar(known: Mapping[date, int]) -> Iterator[tuple[Span, int | None]]:
    """All of time: known days, and what is between them."""
    at = _FIRST
    for day in sorted(known):
        if at < instant(day):
            yield (at, instant(day)), None
        at = instant(day + _DAY)
        yield (instant(day), at), known[day]
    yield (at, _LAST), None


def steps(found: Sequence[Place], wanted: int) -> Iterator[list[Span]]:
    """Parts of `found` that may have `wanted` rows each, with each step twice as many.

    What nobody knows is looked at alone: it may have all rows, or none.
    """
    step, rows = list[Place](), 0
    for one, after in zip_longest(found, found[1:]):
        step.append(one)
        if one.is_whole:
            rows += one.most or 0
        is_last = after is None or (after.most is None) != (one.most is None)
        if is_last or rows >= wanted:
            yield _merged(one.span for one in step)
            wanted *= 1 if one.most is None else 2
            step, rows = [], 0


def narrowed(spans: Sequence[Span], hours: Sequence[datetime]) -> list[Span]:
    """What of `spans`, which are in the order of time, is in one of the hours."""
    return _merged(
        (max(start, hour), min(end, hour + _HOUR))
        for start, end in spans
        for hour in hours
        if max(start, hour) < min(end, hour + _HOUR)
    )


def is_long(spans: Sequence[Span]) -> bool:
    """So many days that it pays to know the hours."""
    return sum((end - start for start, end in spans), timedelta()) > _LONG


def _merged(found: Iterable[Span]) -> list[Span]:
    """In the order of time."""
    spans = list[Span]()
    for start, end in sorted(found):
        if spans and spans[-1][1] == start:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans
