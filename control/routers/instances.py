"""`/control/v1/services/{id}/instances`: instances register themselves."""

from typing import Any

from fastapi import APIRouter, Depends, Request

from control import edits
from control.deps import Deps, json_object
from control.errors import ApiCode, ApiError, invalid
from control.parse import Problem, from_document
from control.registry import Registration
from control.routers.described import body_of
from control.services import Registering
from control.values import check_name

_EXAMPLE = {"address": "10.0.0.7:3002", "ttl_s": 15}
_FIELDS = ("service", "instance", "address", "ttl_s")


def router(deps: Deps) -> APIRouter:
    """Every path asks for the admin token."""
    api = APIRouter(
        prefix="/control/v1/services/{service}/instances",
        dependencies=[Depends(deps.require_admin)],
    )

    @api.get("")
    async def instances(service: str) -> dict[str, Any]:
        """Addresses that the document gives, and those that registered themselves."""
        known = deps.changes.config.services.get(service)
        if known is None:
            raise edits.missing("service", service)
        return {
            "declared": list(known.instances),
            "registered": [_json(one) for one in deps.registry.of(service)],
        }

    @api.put("/{instance}", openapi_extra=body_of(Registering, _EXAMPLE))
    async def register(service: str, instance: str, request: Request) -> dict[str, Any]:
        """Register an instance; again within `ttl_s`, it stays."""
        body: Registering = from_document(await json_object(request), Registering)
        _expect(deps, service)
        one = Registration(service, _name(instance), body.address, body.ttl_s)
        await deps.registry.register(one)
        return _json(one)

    @api.delete("/{instance}")
    async def remove(service: str, instance: str) -> dict[str, Any]:
        """Take a registered instance out at once."""
        if not await deps.registry.remove(service, _name(instance)):
            raise edits.missing("instance", instance)
        return {"deleted": instance}

    return api


def _expect(deps: Deps, service: str) -> None:
    """Raises ApiError: 404 no such service, 409 its names are resolved by DNS."""
    if service not in deps.changes.config.services:
        raise edits.missing("service", service)
    if not deps.changes.takes_instances(service):
        raise ApiError(
            409,
            ApiCode.CONFLICT,
            f"service {service!r} has DNS names; declare addresses or no instances",
        )


def _name(text: str) -> str:
    try:
        return check_name(text)
    except ValueError as error:
        raise invalid(Problem("instance", str(error))) from None


def _json(one: Registration) -> dict[str, Any]:
    return {name: getattr(one, name) for name in _FIELDS}
