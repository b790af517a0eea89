"""`/api/usage/*`: what was used. Reached through the gateway and directly."""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request

from control.access import Caller
from control.audit import Action
from control.completeness import through
from control.deps import Deps, once
from control.routers.described_logs import ANSWER, PARAMETERS, PARAMETERS_OF_USER
from control.usage import UsageQuery, page, parse_query, parse_query_of_user


def router(deps: Deps) -> APIRouter:
    """The caller's own token decides; headers that name a user count for nothing."""
    api = APIRouter(prefix="/api/usage", tags=["usage"])

    @api.get("/logs", openapi_extra=PARAMETERS, responses=ANSWER)
    async def logs(request: Request) -> dict[str, Any]:
        """What was used, call by call."""
        caller = await deps.caller(request)
        return await answer_page(request, caller, parse_query(once(request)))

    @api.get(
        "/users/{user_id:path}/logs",
        openapi_extra=PARAMETERS_OF_USER,
        responses=ANSWER,
    )
    async def logs_of_user(user_id: str, request: Request) -> dict[str, Any]:
        """What one user used, call by call."""
        caller = await deps.caller(request)
        query = parse_query_of_user(user_id, once(request))
        return await answer_page(request, caller, query)

    async def answer_page(
        request: Request, caller: Caller, query: UsageQuery
    ) -> dict[str, Any]:
        wanted = query.chosen.user_id
        seen = await deps.sight(request, caller, Action.LOGS, wanted)
        query = replace(query, chosen=query.chosen.within(seen))
        # First the claim, then the rows that it is about.
        instant = through(await deps.usage.watermarks())
        found = page(query, await deps.usage.find(query), instant, seen)
        if query.aggregate:
            found["totals"] = (await deps.usage.totals(query.chosen)).as_json()
        return found

    return api
