"""`/api/usage/*`: what was used. Reached through the gateway and directly."""

from typing import Any

from fastapi import APIRouter, Request

from control.audit import Action
from control.completeness import answer, parse_range, through
from control.deps import Deps, once
from control.errors import ApiError
from control.usage import page, parse_query
from runtime.contracts import ErrorCode


def router(deps: Deps) -> APIRouter:
    """The caller's own token decides; headers that name a user count for nothing."""
    api = APIRouter(prefix="/api/usage")

    @api.get("/logs")
    async def logs(request: Request) -> dict[str, Any]:
        caller = await deps.caller(request)
        query = parse_query(once(request))
        seen = await deps.sight(request, caller, Action.LOGS, query.user_id)
        query = query.within(seen)
        # First the claim, then the rows that it is about.
        instant = through(await deps.usage.watermarks())
        return page(query, list(await deps.usage.find(query)), instant, seen)

    @api.get("/completeness")
    async def completeness(request: Request) -> dict[str, Any]:
        caller = await deps.caller(request)
        if not caller.is_admin:
            raise ApiError(403, ErrorCode.FORBIDDEN, "Only administrators may see this")
        range_ = parse_range(once(request), deps.clock.now())
        marks = await deps.usage.watermarks()
        return answer(marks, await deps.usage.minutes(range_))

    return api
