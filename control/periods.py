"""Time as people count it: hours, days, weeks and months of a time zone. Pure.

A period begins at a local hour, midnight, Monday or first of the month; where clocks
are changed it is as long as it was for those who lived there. Weeks are those of
ISO 8601.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)


class Unit(StrEnum):
    """How long a period is."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@cache
def _names() -> Mapping[str, str]:
    return {name.lower(): name for name in available_timezones()}


def zone_of(text: str) -> ZoneInfo:
    """A time zone by its IANA name; raises ValueError."""
    # Looked up by a list: ZoneInfo would read any file that the name leads to.
    name = _names().get(text.lower())
    if name is None:
        raise ValueError("give a name of the IANA time zone database: Europe/Berlin")
    return ZoneInfo(name)


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a local day."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def floor(at: datetime, unit: Unit, zone: ZoneInfo) -> datetime:
    """When the period began that `at` is in."""
    local = at.astimezone(zone)
    match unit:
        case Unit.HOUR:
            into = timedelta(
                minutes=local.minute,
                seconds=local.second,
                microseconds=local.microsecond,
            )
            return (at - into).astimezone(UTC)
        case Unit.DAY:
            return midnight(local.date(), zone)
        case Unit.WEEK:
            return midnight(local.date() - local.weekday() * _DAY, zone)
        case Unit.MONTH:
            return midnight(local.date().replace(day=1), zone)


def after(start: datetime, unit: Unit, zone: ZoneInfo) -> datetime:
    """When the period ends that begins at `start`."""
    if unit is Unit.HOUR:
        found = floor(start + _HOUR, unit, zone)
        return found if found > start else start + _HOUR
    day = start.astimezone(zone).date()
    match unit:
        case Unit.DAY:
            return midnight(day + _DAY, zone)
        case Unit.WEEK:
            return midnight(day + 7 * _DAY, zone)
        case Unit.MONTH:
            return midnight((day.replace(day=28) + 4 * _DAY).replace(day=1), zone)


def starts(
    start: datetime, end: datetime, unit: Unit, zone: ZoneInfo, most: int
) -> tuple[datetime, ...]:
    """Where the periods from `start` until `end` begin; the first is cut at `start`.

    Raises:
        ValueError: there are more than `most`.
    """
    found = [start]
    at = after(floor(start, unit, zone), unit, zone)
    while at < end:
        found.append(at)
        if len(found) > most:
            raise ValueError(f"these are more than {most} periods; ask for longer ones")
        at = after(at, unit, zone)
    return tuple(found)


def hours(start: datetime, end: datetime) -> list[datetime]:
    """The whole hours (UTC) from `start` until `end`."""
    first = ceil_hour(start)
    return [first + at * _HOUR for at in range(max(0, -((first - end) // _HOUR)))]


def floor_hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def ceil_hour(at: datetime) -> datetime:
    found = floor_hour(at)
    return found if found == at else found + _HOUR
