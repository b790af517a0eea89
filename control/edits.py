"""Changes of the stored document, as functions from document to document. Pure."""

from typing import Any

from control.errors import ApiCode, ApiError

Document = dict[str, Any]


def put_route(document: Document, route: Document) -> Document:
    """Replace the route of that id in its place, or add it at the end."""
    routes = list(document.get("routes", []))
    places = [place for place, one in enumerate(routes) if one["id"] == route["id"]]
    if places:
        routes[places[0]] = route
    else:
        routes.append(route)
    return {**document, "routes": routes}


def delete_route(document: Document, route_id: str) -> Document:
    """Raises ApiError 404: no such route."""
    routes = [one for one in document.get("routes", []) if one["id"] != route_id]
    if len(routes) == len(document.get("routes", [])):
        raise missing("route", route_id)
    return {**document, "routes": routes}


def put_service(document: Document, name: str, service: Document) -> Document:
    """Replace or add the service of that name."""
    return {**document, "services": {**document.get("services", {}), name: service}}


def delete_service(document: Document, name: str) -> Document:
    """Raises ApiError: 404 no such service, 409 while routes go to it."""
    services = dict(document.get("services", {}))
    if services.pop(name, None) is None:
        raise missing("service", name)
    users = [one["id"] for one in document.get("routes", []) if one["service"] == name]
    if users:
        raise ApiError(
            409,
            ApiCode.CONFLICT,
            f"routes go to service {name!r}: {', '.join(users)}; change them first",
        )
    return {**document, "services": services}


def put_blocked_networks(document: Document, networks: list[str]) -> Document:
    """Replace the list as a whole."""
    edge = {**document.get("edge", {}), "blocked_networks": networks}
    return {**document, "edge": edge}


def put_limits(document: Document, limits: Document) -> Document:
    """Replace the members that are given."""
    return {**document, "limits": {**document.get("limits", {}), **limits}}


def missing(kind: str, name: str) -> ApiError:
    return ApiError(404, ApiCode.NOT_FOUND, f"no {kind} {name!r}")
