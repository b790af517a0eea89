"""`/api/usage/*`: what was used. Reached through the gateway and directly."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request

from control.access import Caller
from control.completeness import answer, parse_range, through
from control.deps import Deps
from control.errors import ApiError
from control.parse import Problem
from control.usage import BadParameters, UsageQuery, page, parse_query
from runtime.contracts import ErrorCode


def router(deps: Deps) -> APIRouter:
    """The caller's own token decides; headers that name a user count for nothing."""
    api = APIRouter(prefix="/api/usage")

    @api.get("/logs")
    async def logs(request: Request) -> dict[str, Any]:
        caller = await deps.access.caller(request.headers.get("authorization"))
        query = _allowed(parse_query(_once(request)), caller)
        # First the claim, then the rows that it is about.
        instant = through(await deps.usage.watermarks())
        return page(query, list(await deps.usage.find(query)), instant)

    @api.get("/completeness")
    async def completeness(request: Request) -> dict[str, Any]:
        caller = await deps.access.caller(request.headers.get("authorization"))
        if caller.user_id is not None:
            raise ApiError(403, ErrorCode.FORBIDDEN, "Only administrators may see this")
        range_ = parse_range(_once(request), deps.clock.now())
        marks = await deps.usage.watermarks()
        return answer(marks, await deps.usage.minutes(range_))

    return api


def _once(request: Request) -> Mapping[str, str]:
    """The query's parameters; raises BadParameters when one is given twice."""
    parameters = request.query_params
    repeated = {one for one in parameters if len(parameters.getlist(one)) > 1}
    if repeated:
        raise BadParameters(
            [Problem(one, "given twice; give it once") for one in sorted(repeated)]
        )
    return parameters


def _allowed(query: UsageQuery, caller: Caller) -> UsageQuery:
    if caller.user_id is None:
        return query
    if query.user_id not in (None, caller.user_id):
        raise ApiError(
            403,
            ErrorCode.FORBIDDEN,
            "You may only see your own usage; leave out userId",
        )
    return replace(query, user_id=caller.user_id)
