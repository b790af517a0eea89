"""`PUT /control/v1/config` and its rehearsal: the document as a whole."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from control.changes import Rejected
from control.deps import Deps, json_object
from control.differences import differences
from control.model import GatewayConfig
from control.routers.config import AUTHOR, answer, refusal
from control.routers.described import body_of

_BODY = body_of(
    GatewayConfig,
    {
        "version": 1,
        "services": {"core-service": {"instances": ["10.0.0.7:3002"]}},
        "routes": [{"id": "users", "prefix": "/api/users", "service": "core-service"}],
    },
)


def router(deps: Deps) -> APIRouter:
    """Every path asks for the admin token."""
    api = APIRouter(
        prefix="/control/v1/config", dependencies=[Depends(deps.require_admin)]
    )
    changes = deps.changes

    @api.put("", openapi_extra=_BODY)
    async def put_document(request: Request) -> JSONResponse:
        """What it leaves out has its default, whatever was in force."""
        wanted = await json_object(request)
        outcome = await changes.apply(lambda _: wanted, AUTHOR, "put the document")
        return answer(outcome, {})

    @api.post("/diff", openapi_extra=_BODY)
    async def compare(request: Request) -> dict[str, Any]:
        """What putting it would change; checked as a change is, Envoy's part too."""
        tried = await changes.tried(await json_object(request))
        if isinstance(tried, Rejected):
            raise refusal(tried)
        found = differences(changes.config, tried)
        return {
            "revision": changes.revision.rev,
            "changes": [one.told() for one in found],
        }

    return api
