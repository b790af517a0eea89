"""Routes: what matches, on what terms, and what the gateway answers itself.

One route costs milliseconds to serialise, a configuration may have thousands: the
bytes of each are kept by its value, and the whole is assembled from bytes.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby

from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    Metadata,
)
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    RetryPolicy,
    RetryPolicyRetryHostPredicate,
    RouteAction,
    RouteActionMaxStreamDuration,
    RouteActionUpgradeConfig,
    RouteMatch,
)
from envoy_data_plane.envoy.config.route.v3 import (
    Route as EnvoyRoute,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import (
    PreviousHostsPredicate,
)
from envoy_data_plane.envoy.type.matcher.v3 import (
    RegexMatchAndSubstitute,
    RegexMatcher,
    StringMatcher,
)
from envoy_data_plane.google.protobuf import Any

from control.model import Route, ordered
from control.values import SERVICE_GATEWAY, seconds
from control.xds import filters, wire

ROUTES_NAME = "gateway"
METADATA_NAMESPACE = "hubgate"
METADATA_SERVICE = "service"
METADATA_AI = "ai"

#: A stream may be silent for so long, and last for so long.
STREAM_IDLE_S = 300.0
STREAM_MAX_S = 86_400.0

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}
HIDDEN_HEADERS = (
    "server",
    "x-powered-by",
    "x-envoy-upstream-service-time",
    "x-envoy-attempt-count",
    "x-envoy-overloaded",
    "x-envoy-degraded",
)

HEALTH_BODY = '{"status":"ok"}'
_JSON = "application/json"


def route_configuration(routes: tuple[Route, ...]) -> bytes:
    """Every route, `/health` before and the 404 after them."""
    host = route_components_pb2.VirtualHost(name=ROUTES_NAME, domains=["*"])
    for one in (_health(), *_all(ordered(routes)), _not_found()):
        host.routes.append(route_components_pb2.Route.FromString(one))
    whole = route_pb2.RouteConfiguration(
        name=ROUTES_NAME,
        virtual_hosts=[host],
        response_headers_to_remove=HIDDEN_HEADERS,
    )
    for option in security_headers(HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT):
        whole.response_headers_to_add.add().ParseFromString(bytes(option))
    return bytes(whole.SerializeToString(deterministic=True))


def security_headers(
    action: HeaderValueOptionHeaderAppendAction,
) -> list[HeaderValueOption]:
    return [wire.header(name, text, action) for name, text in SECURITY_HEADERS.items()]


def _all(routes: Iterable[Route]) -> Iterator[bytes]:
    for _, same in groupby(routes, key=lambda one: one.match):
        group = list(same)
        yield from map(route_bytes, group)
        methods = [one.methods for one in group if one.methods is not None]
        if len(methods) == len(group):
            allowed = tuple(sorted({name for names in methods for name in names}))
            yield _method_not_allowed(group[0], allowed)


@lru_cache(maxsize=20_000)
def route_bytes(route: Route) -> bytes:
    """One route of the document as Envoy's message."""
    return bytes(
        EnvoyRoute(
            name=route.id,
            match=_match(route, route.methods),
            route=_action(route),
            metadata=_metadata(route.service, ai=route.ai),
            typed_per_filter_config=filters.per_route(route),
            # A compressed answer hides its tokens; the provider then sends plain text.
            request_headers_to_remove=["accept-encoding"] if route.ai else [],
        )
    )


@lru_cache(maxsize=20_000)
def _method_not_allowed(route: Route, allowed: tuple[str, ...]) -> bytes:
    return bytes(
        EnvoyRoute(
            name=route.id,
            match=_match(route, None),
            direct_response=DirectResponseAction(status=405),
            metadata=_metadata(route.service),
            typed_per_filter_config=filters.gateway_answers(),
            response_headers_to_add=[
                wire.header(
                    "allow",
                    ", ".join(allowed),
                    HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
                )
            ],
        )
    )


@lru_cache(maxsize=1)
def _health() -> bytes:
    return bytes(
        EnvoyRoute(
            name="health",
            match=RouteMatch(path="/health"),
            direct_response=DirectResponseAction(
                status=200, body=DataSource(inline_string=HEALTH_BODY)
            ),
            metadata=_metadata(SERVICE_GATEWAY),
            typed_per_filter_config=filters.gateway_answers(),
        )
    )


@lru_cache(maxsize=1)
def _not_found() -> bytes:
    return bytes(
        EnvoyRoute(
            name="not_found",
            match=RouteMatch(prefix="/"),
            direct_response=DirectResponseAction(status=404),
            metadata=_metadata(SERVICE_GATEWAY),
            typed_per_filter_config=filters.gateway_answers(),
        )
    )


def _match(route: Route, methods: tuple[str, ...] | None) -> RouteMatch:
    match = RouteMatch()
    if route.path is not None:
        match.path = route.path
    elif route.regex is not None:
        match.safe_regex = RegexMatcher(regex=route.regex)
    elif route.prefix is not None and route.prefix.endswith("/"):
        match.prefix = route.prefix
    else:
        match.path_separated_prefix = route.prefix
    if methods is not None:
        match.headers = [
            HeaderMatcher(
                name=":method",
                string_match=StringMatcher(
                    safe_regex=RegexMatcher(regex="|".join(methods))
                ),
            )
        ]
    return match


def _action(route: Route) -> RouteAction:
    timeout_s = seconds(route.timeout)
    action = RouteAction(
        cluster=route.service,
        timeout=wire.duration(timeout_s),
        retry_policy=_retries(),
        upgrade_configs=[
            RouteActionUpgradeConfig(upgrade_type="websocket", enabled=route.websocket)
        ],
    )
    if timeout_s == 0 or route.websocket:
        action.idle_timeout = wire.duration(STREAM_IDLE_S)
        action.max_stream_duration = RouteActionMaxStreamDuration(
            max_stream_duration=wire.duration(STREAM_MAX_S)
        )
    _rewrite(route, action)
    return action


def _rewrite(route: Route, action: RouteAction) -> None:
    rewrite = route.prefix_rewrite
    if rewrite is None:
        return
    if route.prefix is None or not rewrite.endswith("/") or route.prefix.endswith("/"):
        action.prefix_rewrite = rewrite
        return
    # A plain rewrite of /api/users to / would turn /api/users/7 into //7.
    action.regex_rewrite = RegexMatchAndSubstitute(
        pattern=RegexMatcher(regex=f"^{re.escape(route.prefix)}(/|$)"),
        substitution=rewrite.replace("\\", "\\\\"),
    )


def _retries() -> RetryPolicy:
    # Only what the upstream can't have acted on.
    return RetryPolicy(
        retry_on="connect-failure,refused-stream",
        num_retries=2,
        retry_host_predicate=[
            RetryPolicyRetryHostPredicate(
                name=wire.PREVIOUS_HOSTS, typed_config=_previous_hosts()
            )
        ],
        host_selection_retry_max_attempts=3,
    )


@lru_cache(maxsize=1)
def _previous_hosts() -> Any:
    return wire.pack(PreviousHostsPredicate())


def _metadata(service: str, *, ai: bool = False) -> Metadata:
    """What the access log says of the route."""
    values = {METADATA_SERVICE: service, METADATA_AI: "true" if ai else "false"}
    return Metadata(filter_metadata={METADATA_NAMESPACE: wire.text_struct(values)})
