"""Routes: what matches, on what terms, and what the gateway answers itself.

One route costs milliseconds to serialise, a configuration may have thousands: the
bytes of each are kept by its value, and the whole is assembled from bytes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValueOptionHeaderAppendAction,
)
from envoy_data_plane.envoy.config.route.v3 import (
    Route as EnvoyRoute,
)
from envoy_data_plane.envoy.config.route.v3 import (
    RouteAction,
    RouteActionMaxStreamDuration,
    RouteActionUpgradeConfig,
    RouteMatch,
)
from envoy_data_plane.envoy.type.matcher.v3 import (
    RegexMatchAndSubstitute,
    RegexMatcher,
)

from control.model import GatewayConfig, Route, ordered
from control.values import seconds
from control.xds import (
    cross_origin,
    filters,
    networks,
    own_routes,
    plain_routes,
    resilience,
    route_tree,
    wire,
)
from control.xds.response_headers import HIDDEN_HEADERS, security_headers
from runtime.contracts import USAGE_HEADERS, DecisionCalls

ROUTES_NAME = "gateway"

#: No stream lasts longer.
STREAM_MAX_S = 86_400.0

_ADD_IF_ABSENT = HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT


def route_configuration(config: GatewayConfig, calls: DecisionCalls) -> bytes:
    """Every route of the document between the gateway's own."""
    edge = config.edge
    host = route_components_pb2.VirtualHost(name=ROUTES_NAME, domains=["*"])
    route_tree.add(host, in_order(config, calls))
    whole = route_pb2.RouteConfiguration(
        name=ROUTES_NAME,
        virtual_hosts=[host],
        response_headers_to_remove=HIDDEN_HEADERS,
    )
    for option in security_headers(edge, _ADD_IF_ABSENT):
        whole.response_headers_to_add.add().ParseFromString(bytes(option))
    common = networks.everywhere(edge) | plain_routes.everywhere()
    for name, rules in common.items():
        whole.typed_per_filter_config[name].ParseFromString(bytes(rules))
    return bytes(whole.SerializeToString(deterministic=True))


def in_order(config: GatewayConfig, calls: DecisionCalls) -> tuple[bytes, ...]:
    """Envoy's routes: the first that matches a request is its route."""
    taken = frozenset(one.path for one in config.routes if one.path is not None)
    return (
        *own_routes.first(config.edge, taken),
        *_all(config, calls),
        own_routes.not_found(),
    )


@dataclass(frozen=True, slots=True)
class Terms:
    """What else of the document decides how a route is made."""

    methods: tuple[str, ...]
    max_request_bytes: int
    calls: DecisionCalls
    #: The service's own account of its usage is believed.
    believes_usage: bool = True


def _terms(config: GatewayConfig, route: Route, calls: DecisionCalls) -> Terms:
    service = config.services.get(route.service)
    return Terms(
        config.edge.methods,
        config.limits.max_request_bytes,
        calls,
        believes_usage=service is None or service.usage_headers,
    )


def _all(config: GatewayConfig, calls: DecisionCalls) -> Iterator[bytes]:
    for _, same in groupby(ordered(config.routes), key=lambda one: one.match):
        group = [(one, _terms(config, one, calls)) for one in same]
        yield from (
            _preflight(one, terms) for one, terms in group if one.cors is not None
        )
        for one, terms in group:
            yield from route_bytes(one, terms)
        named = [one.methods for one, _ in group if one.methods is not None]
        if len(named) == len(group):
            allowed = tuple(sorted({name for names in named for name in names}))
            yield _method_not_allowed(group[0][0], allowed)


@lru_cache(maxsize=20_000)
def route_bytes(route: Route, terms: Terms) -> tuple[bytes, ...]:
    """One route of the document as Envoy's messages.

    The typed package takes milliseconds for a route: variants are made from its bytes.
    """
    base, found = _base(route, terms), []
    for only, retries in resilience.variants(route):
        one = route_components_pb2.Route.FromString(base)
        if only is not None:
            matcher = bytes(own_routes.one_of_methods(only))
            one.match.headers.add().ParseFromString(matcher)
        if retries:
            one.route.retry_policy.ParseFromString(retries)
        found.append(bytes(one.SerializeToString(deterministic=True)))
    return tuple(found)


def _base(route: Route, terms: Terms) -> bytes:
    one = EnvoyRoute(
        name=route.id,
        match=_match(route),
        route=_action(route),
        metadata=own_routes.metadata(route.service, ai=route.ai),
        typed_per_filter_config=filters.per_route(route, terms.calls),
        # A compressed answer hides its tokens; the provider then sends plain text.
        request_headers_to_remove=["accept-encoding"] if route.ai else [],
    )
    if route.include_usage:
        # Held until it is whole, so its largest size is what a buffer must take.
        one.request_body_buffer_limit = terms.max_request_bytes
    if not terms.believes_usage:
        one.response_headers_to_remove = list(USAGE_HEADERS.values())
    cross_origin.apply(route, one, terms.methods)
    return bytes(one)


@lru_cache(maxsize=20_000)
def _preflight(route: Route, terms: Terms) -> bytes:
    one = route_components_pb2.Route.FromString(_base(route, terms))
    for matcher in cross_origin.preflight(route.methods or terms.methods):
        one.match.headers.add().ParseFromString(bytes(matcher))
    return bytes(one.SerializeToString(deterministic=True))


@lru_cache(maxsize=20_000)
def _method_not_allowed(route: Route, allowed: tuple[str, ...]) -> bytes:
    match = _match(route)
    return bytes(own_routes.method_not_allowed(route.id, match, route.service, allowed))


def _match(route: Route) -> RouteMatch:
    match = RouteMatch()
    if route.path is not None:
        match.path = route.path
    elif route.regex is not None:
        match.safe_regex = RegexMatcher(regex=route.regex)
    elif route.prefix is not None and route.prefix.endswith("/"):
        match.prefix = route.prefix
    else:
        match.path_separated_prefix = route.prefix
    return match


def _action(route: Route) -> RouteAction:
    timeout_s = seconds(route.timeout)
    action = RouteAction(
        cluster=route.service,
        timeout=wire.duration(timeout_s),
        upgrade_configs=[
            RouteActionUpgradeConfig(upgrade_type="websocket", enabled=route.websocket)
        ],
    )
    if timeout_s == 0 or route.websocket:
        action.idle_timeout = wire.duration(seconds(route.idle_timeout))
        action.max_stream_duration = RouteActionMaxStreamDuration(
            max_stream_duration=wire.duration(STREAM_MAX_S)
        )
    _rewrite(route, action)
    return action


def _rewrite(route: Route, action: RouteAction) -> None:
    rewrite = route.prefix_rewrite
    if rewrite is None:
        return
    if route.prefix is not None and route.prefix.endswith("/"):
        # Of /old/a nothing but "a" is left.
        action.prefix_rewrite = rewrite.rstrip("/") + "/"
        return
    if route.prefix is None or not rewrite.endswith("/"):
        action.prefix_rewrite = rewrite
        return
    # A plain rewrite of /api/users to / would turn /api/users/7 into //7.
    action.regex_rewrite = RegexMatchAndSubstitute(
        pattern=RegexMatcher(regex=f"^{re.escape(route.prefix)}(/|$)"),
        substitution=rewrite.replace("\\", "\\\\"),
    )
