"""UTC days."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

_DAY: Final = timedelta(days=1)


def bounds(day: date) -> tuple[datetime, datetime]:
    """The first instant of a UTC day, and the first after it."""
    start = datetime.combine(day, time(), UTC)
    return start, start + _DAY


def within(column: str, day: date) -> str:
    """Whether an instant is of the day, as an SQL condition."""
    return _between(column, day, day + _DAY)


def outside(column: str, days: AbstractSet[date]) -> str:
    """Whether an instant is of none of the days, as an SQL condition.

    With one range for days in a row, so that PostgreSQL finds the partitions quickly.
    """
    ranges = (f"NOT ({_between(column, *one)})" for one in _ranges(days))
    return " AND ".join(ranges) or "true"


def _between(column: str, first: date, end: date) -> str:
    return f"{column} >= '{first}T00:00Z' AND {column} < '{end}T00:00Z'"


def _ranges(days: AbstractSet[date]) -> Iterator[tuple[date, date]]:
    """First days, and the days after the last."""
    for first in days:
        if first - _DAY not in days:
            end = first + _DAY
            while end in days:
                end += _DAY
            yield first, end
