"""`/control/v1/limits`: what callers may send, in force within a second."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from control import edits
from control.deps import Deps, json_object
from control.limits import Limits
from control.parse import from_document
from control.routers.config import AUTHOR, answer
from control.routers.described import body_of

_EXAMPLE = {
    "roles": {
        "admin": "unlimited",
        "user": {"requests": 60, "per": "minute"},
        "guest": {"requests": 10, "per": "minute"},
    }
}


def router(deps: Deps) -> APIRouter:
    """Every path asks for the admin token."""
    api = APIRouter(
        prefix="/control/v1/limits", dependencies=[Depends(deps.require_admin)]
    )
    changes = deps.changes

    @api.get("")
    async def get_limits() -> dict[str, Any]:
        """What callers may send, by role."""
        return _json(changes.config.limits)

    @api.put("", openapi_extra=body_of(Limits, _EXAMPLE))
    async def put_limits(request: Request) -> JSONResponse:
        """Members that are not given stay; `roles` is replaced as a whole."""
        body = await json_object(request)
        kept = changes.config.limits.model_dump(mode="json", exclude_unset=True)
        limits: Limits = from_document({**kept, **body}, Limits)
        outcome = await changes.apply(
            lambda document: edits.put_limits(document, body), AUTHOR, "put limits"
        )
        return answer(outcome, {"limits": _json(limits)})

    return api


def _json(limits: Limits) -> dict[str, Any]:
    return limits.model_dump(mode="json", exclude_none=True)
