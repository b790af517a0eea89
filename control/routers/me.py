"""`/api/usage/me`: the caller's own limits, credits and latest calls, now."""

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

from fastapi import APIRouter, Request

from control.access import Caller
from control.answers import request_id
from control.balance import Asking
from control.completeness import through
from control.counters import Counted, CountersUnavailable, Limit, limits_of
from control.deps import Deps, once
from control.errors import ApiError
from control.me import (
    DEFAULT_RECENT,
    MAX_RECENT,
    credits_answer,
    limits_answer,
    month_at,
    parse,
)
from control.routers.described import Shown, example, parameter, parameters
from control.sight import sight
from control.usage import UsageFilter, UsageQuery, page
from control.window_sums import Filter
from runtime.contracts import ErrorCode


class LimitNow(Shown):
    """A limit, and what is left of it; `reset` in seconds, null while unknown."""

    scope: Literal["role", "route"]
    route: str | None
    unit: Literal["requests", "tokens"]
    limit: int
    per: Literal["second", "minute", "hour", "day"]
    window_seconds: int
    used: int | None
    remaining: int | None
    reset: int | None


class Period(Shown):
    """A calendar month in that time zone; `end` is excluded."""

    start: str
    end: str
    time_zone: str


class Used(Shown):
    """Sums of the period so far."""

    requests: int
    errors: int
    tokens: int
    credits: int
    includes_adjustments: bool


class Me(Shown):
    """The caller's standing."""

    user_id: str
    role: str
    is_unlimited: bool
    limits: list[LimitNow]
    limits_reason: str | None
    period: Period
    used: Used
    remaining_credits: int | None
    remaining_credits_reason: str | None
    recent: list[dict[str, Any]]
    complete_through: str | None


EXAMPLE = {
    "userId": "alice",
    "role": "user",
    "isUnlimited": False,
    "limits": [
        {
            "scope": "role",
            "route": None,
            "unit": "requests",
            "limit": 60,
            "per": "minute",
            "windowSeconds": 60,
            "used": 12,
            "remaining": 48,
            "reset": 31,
        }
    ],
    "limitsReason": None,
    "period": {
        "start": "2026-01-31T17:00:00Z",
        "end": "2026-02-28T17:00:00Z",
        "timeZone": "Asia/Bangkok",
    },
    "used": {
        "requests": 812,
        "errors": 3,
        "tokens": 120400,
        "credits": 951,
        "includesAdjustments": True,
    },
    "remainingCredits": 49,
    "remainingCreditsReason": None,
    "recent": [],
    "completeThrough": "2026-02-03T09:12:44.120000Z",
}


def router(deps: Deps) -> APIRouter:
    """Of who asks, and of nobody else: an admin's own, too."""
    api = APIRouter(prefix="/api/usage", tags=["usage"])

    @api.get(
        "/me",
        response_model=Me,
        responses=example("The caller's limits, credits and latest calls", EXAMPLE),
        openapi_extra=parameters(
            parameter("timeZone", "In which the month begins", "Asia/Bangkok"),
            parameter(
                "recent",
                "How many of the latest calls",
                5,
                type="integer",
                minimum=0,
                maximum=MAX_RECENT,
                default=DEFAULT_RECENT,
            ),
        ),
    )
    async def me(request: Request) -> dict[str, Any]:
        """The caller's own limits, credits of the month and latest calls."""
        caller = await deps.caller(request)
        user = _person(caller)
        question = parse(once(request))
        month = month_at(deps.clock.now(), question.zone)
        limits = limits_of(deps.changes.config, caller.role, user)
        asking = Asking(user, caller.role, request_id(request))
        counted, sums, balance, calls = await asyncio.gather(
            _counted(deps, limits),
            deps.live.sums.sums(month, Filter(user_id=user)),
            deps.live.balances.of(asking),
            _calls(deps, caller, question.recent),
        )
        return {
            "userId": user,
            "role": caller.role,
            **limits_answer(limits, counted),
            **credits_answer(month, question.zone, sums, balance),
            **calls,
        }

    return api


def _person(caller: Caller) -> str:
    if caller.user_id is None:
        raise ApiError(
            403,
            ErrorCode.FORBIDDEN,
            "The admin token is nobody's in particular; give a user's token",
        )
    return caller.user_id


async def _counted(
    deps: Deps, limits: Sequence[Limit] | None
) -> Sequence[Counted] | None:
    try:
        return await deps.live.counters.read(limits or ())
    except CountersUnavailable:
        return None


async def _calls(deps: Deps, caller: Caller, recent: int) -> dict[str, Any]:
    seen = sight(caller, caller.user_id, deps.changes.config.usage)
    query = UsageQuery(chosen=UsageFilter().within(seen), limit=max(1, recent))
    # First the claim, then the rows that it is about.
    instant = through(await deps.usage.watermarks())
    rows = list(await deps.usage.find(query)) if recent else []
    answer = page(query, rows, instant, seen)
    return {"recent": answer["items"], "completeThrough": answer["completeThrough"]}
