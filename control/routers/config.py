"""`/control/v1/config`, `/routes`, `/services`: read and change what is in force."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from control import edits
from control.changes import Applied, Changes, Edit, Rejected
from control.deps import Deps, json_object
from control.errors import ApiCode, ApiError, invalid
from control.model import Route
from control.parse import Problem, from_document
from control.routers.described import body_of
from control.services import Service
from control.store import Revision

AUTHOR = "admin"
_ROUTE: dict[str, Any] = {
    "id": "orders",
    "prefix": "/api/orders",
    "service": "core-service",
    "rate_limit": {"requests": 30, "per": "minute"},
    "timeout": "5s",
}
_SERVICE: dict[str, Any] = {
    "instances": ["10.0.0.7:3002", "10.0.0.8:3002"],
    "health_check": {"path": "/health", "interval": "2s"},
}


def router(deps: Deps) -> APIRouter:
    """Every path asks for the admin token."""
    api = APIRouter(prefix="/control/v1", dependencies=[Depends(deps.require_admin)])
    _add_reading(api, deps.changes)
    _add_routes(api, deps.changes)
    _add_services(api, deps.changes)
    return api


def _add_reading(api: APIRouter, changes: Changes) -> None:
    @api.get("/config")
    async def config() -> dict[str, Any]:
        """The document in force, with its revision."""
        revision = changes.revision
        return {**told(revision), "config": revision.document}

    @api.get("/routes")
    async def routes() -> dict[str, Any]:
        """Every route, with what it leaves to defaults."""
        return {"items": [_json(route) for route in changes.config.routes]}

    @api.get("/services")
    async def services() -> dict[str, Any]:
        """Every service, with what it leaves to defaults."""
        known = changes.config.services.items()
        return {"items": [{"id": name, **_json(one)} for name, one in known]}


def _add_routes(api: APIRouter, changes: Changes) -> None:
    @api.get("/routes/{route_id}")
    async def get_route(route_id: str) -> dict[str, Any]:
        """One route, with what it leaves to defaults."""
        for route in changes.config.routes:
            if route.id == route_id:
                return _json(route)
        raise edits.missing("route", route_id)

    @api.put("/routes/{route_id}", openapi_extra=body_of(Route, _ROUTE))
    async def put_route(route_id: str, request: Request) -> JSONResponse:
        """Add a route, or replace it as a whole.

        202: it is kept, and some Envoys (`waitingFor`) have not acknowledged it yet.
        """
        body = _named(await json_object(request), route_id)
        route: Route = from_document(body, Route)
        return await _apply(
            changes,
            lambda document: edits.put_route(document, body),
            f"put route {route_id}",
            {"route": _json(route)},
        )

    @api.delete("/routes/{route_id}")
    async def delete_route(route_id: str) -> JSONResponse:
        """Remove a route; its requests get 404, or what another route says."""
        return await _apply(
            changes,
            lambda document: edits.delete_route(document, route_id),
            f"delete route {route_id}",
            {"deleted": route_id},
        )


def _add_services(api: APIRouter, changes: Changes) -> None:
    @api.get("/services/{name}")
    async def get_service(name: str) -> dict[str, Any]:
        """One service, with what it leaves to defaults."""
        service = changes.config.services.get(name)
        if service is None:
            raise edits.missing("service", name)
        return {"id": name, **_json(service)}

    @api.put("/services/{name}", openapi_extra=body_of(Service, _SERVICE))
    async def put_service(name: str, request: Request) -> JSONResponse:
        """Add a service, or replace it as a whole.

        202: it is kept, and some Envoys (`waitingFor`) have not acknowledged it yet.
        """
        body = _named(await json_object(request), name)
        del body["id"]
        service: Service = from_document(body, Service)
        return await _apply(
            changes,
            lambda document: edits.put_service(document, name, body),
            f"put service {name}",
            {"service": {"id": name, **_json(service)}},
        )

    @api.delete("/services/{name}")
    async def delete_service(name: str) -> JSONResponse:
        """Remove a service that no route goes to."""
        return await _apply(
            changes,
            lambda document: edits.delete_service(document, name),
            f"delete service {name}",
            {"deleted": name},
        )


def told(revision: Revision) -> dict[str, Any]:
    """All but its document."""
    return {
        "revision": revision.rev,
        "author": revision.author,
        "comment": revision.comment,
        "createdAt": revision.created_at.isoformat(),
        "status": revision.status.value,
    }


def _named(body: dict[str, Any], name: str) -> dict[str, Any]:
    """The body with its id, which the path decides."""
    if body.setdefault("id", name) != name:
        raise invalid(
            Problem("id", f"the path says {name!r}; leave it out or say the same")
        )
    return body


async def _apply(
    changes: Changes, edit: Edit, comment: str, said: dict[str, Any]
) -> JSONResponse:
    return answer(await changes.apply(edit, AUTHOR, comment), said)


def answer(outcome: Applied | Rejected, said: dict[str, Any]) -> JSONResponse:
    """What became of a change: 200 or 202.

    Raises:
        ApiError: 422, Envoy refuses it.
    """
    match outcome:
        case Rejected():
            raise refusal(outcome)
        case Applied(revision, published):
            late = published.waiting_for
            acknowledged = [one for one in published.nodes if one not in late]
            body = {**said, "revision": revision.rev, "acknowledgedBy": acknowledged}
            if late:
                body["waitingFor"] = list(late)
            return JSONResponse(body, 200 if acknowledged and not late else 202)


def refusal(outcome: Rejected) -> ApiError:
    return ApiError(
        422,
        ApiCode.CONFIG_REJECTED,
        f"Envoy refuses this configuration: {outcome.reason}",
    )


def _json(value: Route | Service) -> dict[str, Any]:
    return value.model_dump(mode="json")
