"""`GET /api/usage/summary` and `/analytics`: sums of what was used."""

from collections.abc import Awaitable, Callable, Hashable
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from control import analytics, summary
from control.audit import Action
from control.completeness import through
from control.deps import Deps, once
from control.errors import invalid
from control.parameters import shown
from control.parse import Problem
from control.routers.described_analytics import ANALYTICS, ANALYTICS_PARAMETERS
from control.routers.described_totals import SUMMARY, SUMMARY_PARAMETERS
from control.usage_range import Asked
from control.usage_totals import RowsArchived, Snapshot

Question = Callable[[Snapshot], Awaitable[dict[str, Any]]]


def router(deps: Deps) -> APIRouter:
    """The caller's own token decides; headers that name a user count for nothing."""
    api = APIRouter(prefix="/api/usage", tags=["usage"])

    @api.get("/summary", openapi_extra=SUMMARY_PARAMETERS, responses=SUMMARY)
    async def totals(request: Request) -> Response:
        """Totals, by what they come from, and over time in a time zone."""
        caller = await deps.caller(request)
        query = summary.parse_query(once(request), deps.clock.now())
        seen = await deps.sight(request, caller, Action.SUMMARY, query.asked.user_id)
        return await _answer(
            deps,
            (query, seen.user_ids),
            query.asked,
            query.asked.start,
            lambda snapshot: summary.summarize(snapshot, query, seen.user_ids),
        )

    @api.get("/analytics", openapi_extra=ANALYTICS_PARAMETERS, responses=ANALYTICS)
    async def analysis(request: Request) -> Response:
        """Trend, comparison, the largest, errors, latency, growth and anomalies."""
        caller = await deps.caller(request)
        query = analytics.parse_query(once(request), deps.clock.now())
        seen = await deps.sight(request, caller, Action.ANALYTICS, query.asked.user_id)
        return await _answer(
            deps,
            (query, seen.user_ids),
            query.asked,
            query.first,
            lambda snapshot: analytics.analyse(snapshot, query, seen.user_ids),
        )

    return api


async def _answer(
    deps: Deps, key: Hashable, asked: Asked, first: datetime, question: Question
) -> Response:
    """The answer to `question`, which reads the ledger from `first` on."""
    async with deps.totals.snapshot() as snapshot:
        instant = through(await snapshot.watermarks())
        state = await snapshot.state(first, asked.end)
        found = deps.answers.get(key, state)
        is_kept = found is not None
        if found is None:
            try:
                found = to_json(await question(snapshot))
            except RowsArchived as gone:
                raise _split(gone) from None
            deps.answers.put(key, state, found)
    now = {
        "isFromCache": is_kept,
        "completeThrough": None if instant is None else shown(instant),
    }
    # Two objects with members become one.
    content = found[:-1] + b"," + to_json(now)[1:]
    return Response(content, media_type="application/json")


def _split(gone: RowsArchived) -> Exception:
    return invalid(
        Problem(
            "startDate",
            f"the rows of {gone.day} are archived, only sums of whole hours (UTC) are "
            "left: give whole hours and a time zone with whole hours, or export",
        )
    )
