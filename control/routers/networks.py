"""`/control/v1/blocked-networks`: who may not come in."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from control import edits
from control.deps import Deps, json_object
from control.edge import Edge
from control.errors import invalid
from control.parse import Problem, from_document
from control.routers.config import AUTHOR, answer
from control.routers.described import body, fields

_FIELD = "networks"
_SCHEMA = fields(_FIELD, networks={"type": "array", "items": {"type": "string"}})


def router(deps: Deps) -> APIRouter:
    """Every path asks for the admin token."""
    api = APIRouter(
        prefix="/control/v1/blocked-networks",
        dependencies=[Depends(deps.require_admin)],
    )
    changes = deps.changes

    @api.get("")
    async def blocked() -> dict[str, Any]:
        """The networks that may not come in."""
        return {_FIELD: list(changes.config.edge.blocked_networks)}

    @api.put("", openapi_extra=body(_SCHEMA, {_FIELD: ["203.0.113.0/24"]}))
    async def block(request: Request) -> JSONResponse:
        """Replace the networks that may not come in, in force within a second."""
        body = await json_object(request)
        if set(body) != {_FIELD}:
            raise invalid(Problem(_FIELD, "give a list of networks, and no more"))
        edge: Edge = from_document({"blocked_networks": body[_FIELD]}, Edge)
        networks = list(edge.blocked_networks)
        outcome = await changes.apply(
            lambda document: edits.put_blocked_networks(document, networks),
            AUTHOR,
            f"block {len(networks)} networks",
        )
        return answer(outcome, {_FIELD: networks})

    return api
