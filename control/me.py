"""A caller's own standing: limits, credits of this month, latest calls. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from control.balance import Balance
from control.counters import Counted, Limit
from control.limits import PER_SECONDS
from control.parameters import Reader, shown
from control.periods import Unit, after, floor, zone_of
from control.window_sums import Sums, Window

DEFAULT_RECENT: Final = 10
MAX_RECENT: Final = 50
COUNTERS_AWAY: Final = "the counters do not answer now"


@dataclass(frozen=True, slots=True)
class Question:
    """`zone` decides when the month begins."""

    zone: ZoneInfo
    recent: int


def parse(parameters: Mapping[str, str]) -> Question:
    """Raises BadParameters, naming every bad one."""
    reader = Reader(parameters, ("timeZone", "recent"))
    zone = reader.read("timeZone", zone_of) or ZoneInfo("UTC")
    recent = reader.number("recent", DEFAULT_RECENT, 0, MAX_RECENT)
    reader.done()
    return Question(zone, recent)


def month_at(now: float, zone: ZoneInfo) -> Window:
    """The calendar month in `zone` that holds the Unix time `now`."""
    first = floor(datetime.fromtimestamp(now, UTC), Unit.MONTH, zone)
    return Window(first, after(first, Unit.MONTH, zone))


def limits_answer(
    limits: Sequence[Limit] | None, counted: Sequence[Counted] | None
) -> dict[str, Any]:
    """`limits` None: there is none; `counted` None: nobody can tell what is left."""
    if limits is None:
        return {"isUnlimited": True, "limits": [], "limitsReason": None}
    states = [None] * len(limits) if counted is None else counted
    return {
        "isUnlimited": not limits,
        "limits": [_limit(*one) for one in zip(limits, states, strict=True)],
        "limitsReason": COUNTERS_AWAY if counted is None else None,
    }


def credits_answer(
    month: Window, zone: ZoneInfo, sums: Sums, balance: Balance
) -> dict[str, Any]:
    """What this month took, adjustments included, and what is left."""
    return {
        "period": {
            "start": shown(month.start),
            "end": shown(month.end),
            "timeZone": zone.key,
        },
        "used": {
            "requests": sums.requests,
            "errors": sums.errors,
            "tokens": sums.tokens,
            "credits": sums.credits,
            "includesAdjustments": True,
        },
        "remainingCredits": balance.credits,
        "remainingCreditsReason": balance.reason,
    }


def _limit(limit: Limit, counted: Counted | None) -> dict[str, Any]:
    left: dict[str, int | None] = {"used": None, "remaining": None, "reset": None}
    if counted is not None:
        left = {
            "used": counted.used,
            "remaining": max(0, limit.amount - counted.used),
            # Rounded up, so that a client that waits as told is never too early.
            "reset": math.ceil(counted.reset_ms / 1000),
        }
    return {
        "scope": "role" if limit.route is None else "route",
        "route": limit.route,
        "unit": limit.unit,
        "limit": limit.amount,
        "per": limit.rule.per,
        "windowSeconds": PER_SECONDS[limit.rule.per],
        **left,
    }
