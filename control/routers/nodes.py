"""`/control/v1/nodes/{node}/closed`: completeness waits no more for one that died."""

from typing import Any

from fastapi import APIRouter, Request

from control import nodes
from control.audit import Action
from control.deps import Deps, entry_of, json_object
from control.errors import ApiCode, ApiError
from control.nodes import Closing, NodeAlive
from control.parameters import Reader
from control.parse import from_document
from control.routers.completeness import NODE, Node
from control.routers.described import Shown, body_of, example

_BODY = {"author": "ada", "reason": "its machine is gone, ticket 4711"}
_CLOSED = {
    **NODE,
    "node": "gateway-2",
    "isClosed": True,
    "closedByHandAt": "2026-01-31T09:00:00Z",
    "ageSeconds": 3600,
    "silentSeconds": 3599,
}


class Closed(Shown):
    """`meaning`: which requests may have no row; `complete_through`: of all nodes."""

    node: Node
    complete_through: str | None
    meaning: str


def router(deps: Deps) -> APIRouter:
    """For admins, by the admin token or their own."""
    api = APIRouter(prefix="/control/v1/nodes", tags=["usage"])

    @api.put(
        "/{node:path}/closed",
        response_model=Closed,
        responses=example(
            "It is closed, now or since before.",
            {
                "node": _CLOSED,
                "completeThrough": "2026-01-31T09:00:00Z",
                "meaning": "completeThrough waits for gateway-2 no more. Its requests…",
            },
        ),
        openapi_extra=body_of(Closing, _BODY),
    )
    async def close(node: str, request: Request) -> dict[str, Any]:
        """Close the watermark of a node that died and never returns.

        409: it was heard within the last minute, or its Envoy is connected to this
        control. Requests that it served later than it claims may have no row.
        """
        caller = await deps.admin(request)
        reader = Reader({"node": node}, ("node",))
        name = reader.text("node") or ""
        reader.done()
        closing: Closing = from_document(await json_object(request), Closing)
        if name in deps.changes.envoys:
            raise ApiError(409, ApiCode.CONFLICT, nodes.connected(name))
        details = closing.model_dump()
        entry = entry_of(request, caller, Action.NODE_CLOSED, details)
        try:
            mark = await deps.nodes.close(name, entry)
        except NodeAlive as alive:
            why = nodes.heard(alive, deps.clock.now())
            raise ApiError(409, ApiCode.CONFLICT, why) from None
        if mark is None:
            raise ApiError(
                404,
                ApiCode.NOT_FOUND,
                f"No node {name!r} has claimed anything: /api/usage/completeness lists"
                " those that have",
            )
        return nodes.answer(mark, await deps.usage.watermarks(), deps.clock.now())

    return api
