"""Figures and times as people read them. Pure."""

from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

_POWERS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
NONE: Final = "-"
_SECOND: Final = 1000
_SHORT: Final = {
    "hour": "%H:%M",
    "day": "%-d %b",
    "week": "%-d %b",
    "month": "%b %Y",
}
_LONG: Final = {
    "hour": "%-d %b %Y %H:%M",
    "day": "%a %-d %b %Y",
    "week": "week of %-d %b %Y",
    "month": "%B %Y",
}


def compact(value: float | None) -> str:
    """Three digits and a power, such as 12.3k."""
    if value is None:
        return NONE
    for power, sign in _POWERS:
        # 999,950 would be shown as 1000k.
        if abs(value) >= power * 0.9995:
            return f"{value / power:.3g}{sign}"
    return f"{value:.3g}"


def whole(value: float | None) -> str:
    """All digits, in groups of three."""
    return NONE if value is None else f"{value:,.0f}"


def percent(share: float | None) -> str:
    """Of a share of one."""
    return NONE if share is None else f"{share * 100:.2f} %"


def change(percents: float | None) -> str:
    """With its sign, as a difference is said."""
    if percents is None:
        return NONE
    return f"{percents:+.1f} %"


def milliseconds(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value / _SECOND:.2f} s" if value >= _SECOND else f"{value:.0f} ms"


def instant(text: str | None, zone: ZoneInfo) -> str:
    """A time of the API's, in the reader's zone."""
    if not text:
        return NONE
    return datetime.fromisoformat(text).astimezone(zone).strftime("%-d %b %Y %H:%M:%S")


def period(text: str, granularity: str, zone: ZoneInfo, *, is_short: bool) -> str:
    """The name of the hour, day, week or month that begins then."""
    formats = _SHORT if is_short else _LONG
    return datetime.fromisoformat(text).astimezone(zone).strftime(formats[granularity])
