"""The routes that no document declares: the gateway's own answers and its refusals."""

from functools import cache, lru_cache

from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    HeaderValueOptionHeaderAppendAction,
    Metadata,
)
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    RouteAction,
    RouteMatch,
)
from envoy_data_plane.envoy.config.route.v3 import (
    Route as EnvoyRoute,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any

from control.edge import Edge
from control.values import HEALTH_PATH, SERVICE_CONTROL, SERVICE_GATEWAY
from control.xds import filters, networks, wire

METADATA_NAMESPACE = "hubgate"
METADATA_SERVICE = "service"
METADATA_AI = "ai"

HEALTH_BODY = '{"status":"ok"}'
READY_PATH = "/health/ready"
METRICS_PATH = "/metrics"
CONTROL_TIMEOUT_S = 5.0


def first(edge: Edge, taken: frozenset[str]) -> tuple[bytes, ...]:
    """Before all others; paths in `taken` have a route of the document's own."""
    return _first(edge, taken & {READY_PATH, METRICS_PATH})


@lru_cache(maxsize=8)
def _first(edge: Edge, taken: frozenset[str]) -> tuple[bytes, ...]:
    own = [_refused_methods(edge.methods), _health()]
    if READY_PATH not in taken:
        own += _to_control(READY_PATH, "ready")
    if METRICS_PATH not in taken:
        own += _to_control(METRICS_PATH, "metrics", networks.metrics_only(edge))
    return tuple(bytes(one) for one in own)


@cache
def not_found() -> bytes:
    """After all others."""
    return bytes(
        EnvoyRoute(
            name="not_found",
            match=RouteMatch(prefix="/"),
            direct_response=DirectResponseAction(status=404),
            metadata=metadata(SERVICE_GATEWAY),
            typed_per_filter_config=filters.gateway_answers(),
        )
    )


def method_not_allowed(
    name: str, match: RouteMatch, service: str, allowed: tuple[str, ...]
) -> EnvoyRoute:
    """405 with `Allow`, which RFC 9110 demands."""
    return EnvoyRoute(
        name=name,
        match=match,
        direct_response=DirectResponseAction(status=405),
        metadata=metadata(service),
        typed_per_filter_config=filters.gateway_answers(),
        response_headers_to_add=[
            wire.header(
                "allow",
                ", ".join(allowed),
                HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
            )
        ],
    )


def one_of_methods(
    methods: tuple[str, ...], *, inverted: bool = False
) -> HeaderMatcher:
    return HeaderMatcher(
        name=":method",
        string_match=StringMatcher(safe_regex=RegexMatcher(regex="|".join(methods))),
        invert_match=inverted,
    )


def metadata(service: str, *, ai: bool = False) -> Metadata:
    """What the access log says of the route."""
    values = {METADATA_SERVICE: service, METADATA_AI: "true" if ai else "false"}
    return Metadata(filter_metadata={METADATA_NAMESPACE: wire.text_struct(values)})


def _refused_methods(allowed: tuple[str, ...]) -> EnvoyRoute:
    match = RouteMatch(prefix="/", headers=[one_of_methods(allowed, inverted=True)])
    return method_not_allowed(
        "method_refused", match, SERVICE_GATEWAY, tuple(sorted(allowed))
    )


def _health() -> EnvoyRoute:
    return EnvoyRoute(
        name="health",
        match=RouteMatch(path=HEALTH_PATH),
        direct_response=DirectResponseAction(
            status=200, body=DataSource(inline_string=HEALTH_BODY)
        ),
        metadata=metadata(SERVICE_GATEWAY),
        typed_per_filter_config=filters.gateway_answers(),
    )


def _to_control(
    path: str, name: str, rules: dict[str, Any] | None = None
) -> list[EnvoyRoute]:
    reading = ("GET", "HEAD")
    read = EnvoyRoute(
        name=name,
        match=RouteMatch(path=path, headers=[one_of_methods(reading)]),
        route=RouteAction(
            cluster=SERVICE_CONTROL, timeout=wire.duration(CONTROL_TIMEOUT_S)
        ),
        # The token of a caller who sends one is not control's business here.
        request_headers_to_remove=["authorization", "cookie"],
        metadata=metadata(SERVICE_CONTROL),
        typed_per_filter_config={**filters.gateway_answers(), **(rules or {})},
    )
    other = RouteMatch(path=path)
    return [read, method_not_allowed(name, other, SERVICE_GATEWAY, reading)]
