"""What a reader of the console chose, and what is asked of the API for it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from control.parameters import Reader, shown
from control.periods import midnight, zone_of

CUSTOM: Final = "custom"
AUTOMATIC: Final = "auto"
PERIODS: Final = {
    "24h": "Last 24 hours",
    "7d": "Last 7 days",
    "30d": "Last 30 days",
    "90d": "Last 90 days",
    "month": "This month",
    CUSTOM: "Days of your choice",
}
GRANULARITIES: Final = {
    AUTOMATIC: "Automatic",
    "hour": "Hour",
    "day": "Day",
    "week": "Week",
    "month": "Month",
}
MEASURES: Final = {"credits": "Credits", "tokens": "Tokens", "requests": "Requests"}

_DAYS: Final = {"7d": 7, "30d": 30, "90d": 90}
_LONGEST_BY: Final = (
    (timedelta(days=2), "hour"),
    (timedelta(days=93), "day"),
    (timedelta(days=400), "week"),
)
_NAMES: Final = (
    *("period", "from", "to", "granularity", "timeZone", "measure"),
    *("service", "model", "user", "width"),
)
_HOUR: Final = timedelta(hours=1)
#: The filter that a parameter of the API's comes from.
FIELDS: Final = {
    "userId": "user",
    "startDate": "from",
    "endDate": "to",
    "groupBy": "granularity",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """`end` is excluded; `first` and `last` are the days that were given, if any."""

    period: str
    start: datetime
    end: datetime
    first: str
    last: str
    chosen_granularity: str
    zone: ZoneInfo
    measure: str
    service: str | None
    model: str | None
    user: str | None
    width: int

    @property
    def granularity(self) -> str:
        if self.chosen_granularity != AUTOMATIC:
            return self.chosen_granularity
        length = self.end - self.start
        fitting = (name for most, name in _LONGEST_BY if length <= most)
        return next(fitting, "month")

    def asked(self, **more: str | None) -> dict[str, str]:
        """Parameters of the API: the range and what it is narrowed to."""
        found = {
            "startDate": shown(self.start),
            "endDate": shown(self.end),
            "service": self.service,
            "model": self.model,
            "userId": self.user,
            **more,
        }
        return {name: value for name, value in found.items() if value is not None}


def read(parameters: Mapping[str, str], now: float) -> Filters:
    """The last seven days in UTC unless the parameters say else.

    Raises:
        BadParameters: naming every bad one.
    """
    # An empty field of the form is one that was left alone.
    given = {name: value for name, value in parameters.items() if value}
    reader = Reader(given, _NAMES)
    period = reader.choice("period", tuple(PERIODS)) or "7d"
    where = reader.read("timeZone", zone_of) or ZoneInfo("UTC")
    first, last = reader.read("from", _day), reader.read("to", _day)
    at = datetime.fromtimestamp(now, UTC)
    start, end = _range(period, at.astimezone(where), where)
    if period == CUSTOM:
        today = at.astimezone(where).date()
        first, last = first or today, last or today
        start, end = midnight(first, where), midnight(last + timedelta(days=1), where)
        if last < first:
            reader.problem("to", "give a day that is not before the first")
    filters = Filters(
        period=period,
        start=start,
        end=end,
        first="" if first is None else first.isoformat(),
        last="" if last is None else last.isoformat(),
        chosen_granularity=reader.choice("granularity", tuple(GRANULARITIES))
        or AUTOMATIC,
        zone=where,
        measure=reader.choice("measure", tuple(MEASURES)) or "credits",
        service=reader.text("service"),
        model=reader.text("model"),
        user=reader.text("user"),
        width=reader.number("width", 720, 0, 10_000),
    )
    reader.done()
    return filters


def _range(period: str, at: datetime, where: ZoneInfo) -> tuple[datetime, datetime]:
    # Up to the next whole hour: the same question all through an hour.
    end = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + _HOUR
    if period == "24h":
        return end - timedelta(days=1), end
    if period == "month":
        return midnight(at.date().replace(day=1), where), end
    days = _DAYS.get(period, 1)
    return midnight(at.date() - timedelta(days=days - 1), where), end


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("give a day, such as 2026-01-31") from None
