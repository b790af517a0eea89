"""What questions about sums have in common: a range, a time zone, filters. Pure.

A day is a local one of `timeZone`. Without `endDate` a range ends with the hour that
is running, without `startDate` it is 30 days long.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from control.parameters import Reader, instant_of, shown
from control.periods import ceil_hour, midnight, zone_of
from control.usage_totals import DIMENSIONS, MEASURES, USER, Value, Where

#: Of every such question.
PARAMETERS: Final = (
    *("userId", "service", "model", "route", "statusClass"),
    *("startDate", "endDate", "timeZone"),
)
DEFAULT_RANGE: Final = timedelta(days=30)
_UTC: Final = ZoneInfo("UTC")
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
#: Of those before and after, nothing can be computed with every time zone.
_YEARS: Final = range(1971, 2200)
_CLASSES: Final = tuple("012345")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which rows; `end` is excluded."""

    start: datetime
    end: datetime
    zone: ZoneInfo
    user_id: str | None
    where: Where

    def of(self, user_ids: frozenset[str] | None) -> Where:
        """The filter for who sees these users only; None: everyone."""
        if user_ids is None:
            return self.where
        return (*self.where, (USER, tuple(sorted(user_ids))))

    def as_json(self) -> dict[str, Any]:
        return {
            "start": shown(self.start),
            "end": shown(self.end),
            "timeZone": str(self.zone),
        }


def read_range(reader: Reader, now: float, longest: timedelta) -> Asked:
    """Problems are left with the reader."""
    zone = reader.read("timeZone", zone_of) or _UTC
    running = ceil_hour(datetime.fromtimestamp(now, UTC) + timedelta(microseconds=1))
    end = reader.read("endDate", lambda text: _instant(text, zone, is_end=True))
    end = end or running
    start = reader.read("startDate", lambda text: _instant(text, zone, is_end=False))
    start = start or end - DEFAULT_RANGE
    if not timedelta() < end - start <= longest:
        reader.problem(
            "startDate", f"give a range of at most {longest.days} days, start first"
        )
    where: list[tuple[str, tuple[Value, ...]]] = []
    for name in ("service", "model", "route"):
        text = reader.text(name)
        if text is not None:
            where.append((DIMENSIONS[name], (text,)))
    status_class = reader.choice("statusClass", _CLASSES)
    if status_class is not None:
        where.append((DIMENSIONS["statusClass"], (int(status_class),)))
    return Asked(
        start=start,
        end=end,
        zone=zone,
        user_id=reader.text("userId"),
        where=tuple(where),
    )


def _instant(text: str, zone: ZoneInfo, *, is_end: bool) -> datetime:
    at = instant_of(text)  # says what is wrong with it
    if at.year not in _YEARS:
        raise ValueError(f"give a year from {_YEARS.start} to {_YEARS.stop - 1}")
    if _DAY.fullmatch(text) is None:
        return at
    return midnight(date.fromisoformat(text) + timedelta(days=is_end), zone)


def named(dimensions: Sequence[str], key: Sequence[Value]) -> dict[str, Value | None]:
    """The values of a cell, by the names that a caller uses; '' stands for none."""
    names = {column: name for name, column in DIMENSIONS.items()}
    return {
        names[column]: None if value == "" else value
        for column, value in zip(dimensions, key, strict=True)
    }


def measured(sums: Sequence[int]) -> dict[str, Any]:
    """Sums as the API shows them: corrections are in them, and told beside."""
    # In the order of MEASURES; said up to ten thousand times in one answer.
    requests, errors, tokens, input_tokens, output_tokens, cached_tokens = sums[:6]
    reasoning_tokens, credits_, duration_ms = sums[6:9]
    more_tokens, more_credits = sums[9 : len(MEASURES)]
    return {
        "requests": requests,
        "errors": errors,
        "tokens": tokens + more_tokens,
        "inputTokens": input_tokens,
        "outputTokens": output_tokens,
        "cachedTokens": cached_tokens,
        "reasoningTokens": reasoning_tokens,
        "credits": credits_ + more_credits,
        "errorRate": _ratio(errors, requests),
        "averageMs": _ratio(duration_ms, requests),
        "adjustments": {"tokens": more_tokens, "credits": more_credits},
    }


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None
