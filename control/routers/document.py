"""`PUT /control/v1/config` and its rehearsal: the document as a whole."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from control import edits
from control.changes import Rejected
from control.deps import Deps, json_object, once
from control.differences import differences
from control.errors import ApiCode, ApiError
from control.model import GatewayConfig
from control.parameters import Reader
from control.routers.config import AUTHOR, answer, refusal
from control.routers.described import body_of, parameter, parameters
from control.routers.revisions import MAX_REV, NUMBER

_BODY = body_of(
    GatewayConfig,
    {
        "version": 1,
        "services": {"core-service": {"instances": ["10.0.0.7:3002"]}},
        "routes": [{"id": "users", "prefix": "/api/users", "service": "core-service"}],
    },
)
_BASED_ON = parameters(
    parameter("revision", "409 when another one is in force.", 16, **NUMBER)
)


def router(deps: Deps) -> APIRouter:
    """Every path asks for the admin token."""
    api = APIRouter(
        prefix="/control/v1/config", dependencies=[Depends(deps.require_admin)]
    )
    changes = deps.changes

    @api.put("", openapi_extra={**_BODY, **_BASED_ON})
    async def put_document(request: Request) -> JSONResponse:
        """What it leaves out has its default, whatever was in force."""
        reader = Reader(once(request), ("revision",))
        based_on = reader.number("revision", 0, 1, MAX_REV)
        reader.done()
        wanted = await json_object(request)

        def replace(_: edits.Document) -> edits.Document:
            if based_on not in (0, changes.revision.rev):
                raise _overtaken(changes.revision.rev)
            return wanted

        outcome = await changes.apply(replace, AUTHOR, "put the document")
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


def _overtaken(rev: int) -> ApiError:
    message = f"revision {rev} is in force by now; compare with that"
    return ApiError(409, ApiCode.CONFLICT, message)
