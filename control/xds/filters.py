"""The HTTP filters in their order, and what a route asks of each.

May this client come in (RBAC), is it a preflight (CORS), may this request pass
(ext_authz), how many more (ratelimit), how large (body size), which trace (Lua), what
did it use (AI answers only), then the router.
"""

from functools import lru_cache

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import (
    HeaderMutation as Mutation,
)
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import (
    HeaderMutationRemoveOnMatch,
)
from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    HeaderValueOptionHeaderAppendAction,
)
from envoy_data_plane.envoy.config.route.v3 import (
    FilterConfig,
)
from envoy_data_plane.envoy.extensions.filters.http.cors.v3 import Cors as CorsFilter
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import (
    CheckSettings,
    ExtAuthz,
    ExtAuthzPerRoute,
)
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutation,
    Mutations,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: E501 - Envoy's name
    HttpFilter,
)
from envoy_data_plane.envoy.type.matcher.v3 import ListStringMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.protobuf import Any

from control.model import Route
from control.xds import ai_answers, networks, rate_limits, sessions, tracing, wire
from control.xds.deployment import OnAuthzDown
from runtime import contracts

AUTHZ = "authz"
RATELIMIT = rate_limits.CLUSTER

_ADDRESS = "envoy.filters.http.header_mutation"
CORS = "envoy.filters.http.cors"
_EXT_AUTHZ = "envoy.filters.http.ext_authz"
_BODY_SIZE = "envoy.filters.http.body_size_limit"
_ROUTER = "envoy.filters.http.router"
_BODY_SIZE_TYPE = "envoy.extensions.filters.http.body_size_limit.v3.BodySizeLimit"

AUTHZ_TIMEOUT_S = 0.6

#: What the services see of a request's headers: no more than they decide by.
_AUTHZ_HEADERS = (
    contracts.HEADER_AUTHORIZATION,
    contracts.HEADER_CLIENT_ADDRESS,
    contracts.HEADER_REQUEST_ID,
    contracts.HEADER_WEBSOCKET_PROTOCOL,
)


def http_filters(
    max_request_bytes: int, on_authz_down: OnAuthzDown
) -> list[HttpFilter]:
    """Every filter of the listener, first to last."""
    return [
        HttpFilter(name=networks.FILTER, typed_config=networks.rbac()),
        HttpFilter(name=CORS, typed_config=wire.pack(CorsFilter())),
        HttpFilter(name=_ADDRESS, typed_config=wire.pack(_client_address())),
        HttpFilter(name=_EXT_AUTHZ, typed_config=wire.pack(_ext_authz())),
        HttpFilter(
            name=rate_limits.FILTER, typed_config=wire.pack(rate_limits.rate_limit())
        ),
        sessions.http_filter(on_authz_down),
        HttpFilter(
            name=_BODY_SIZE,
            typed_config=wire.pack_untyped(
                _BODY_SIZE_TYPE, {"max_request_bytes": max_request_bytes}
            ),
        ),
        HttpFilter(name=tracing.FILTER, typed_config=tracing.lua()),
        *ai_answers.http_filters(),
        # Its x-envoy headers stay on requests: the access log finds the path before
        # a rewrite in one of them. Answers lose them by the route configuration.
        HttpFilter(name=_ROUTER, typed_config=wire.pack(Router())),
    ]


def per_route(route: Route) -> dict[str, Any]:
    """What this route asks of the filters."""
    config = {
        _EXT_AUTHZ: _policy(
            route.id,
            route.auth.value,
            route.roles or (),
            route.service,
            outlives=route.websocket,
        ),
        rate_limits.FILTER: (
            _disabled()
            if route.rate_limit == "none"
            else rate_limits.per_route(route.id, ai=route.ai)
        ),
    }
    if route.ai:
        config.update(ai_answers.enabled(include_usage=route.include_usage))
    if route.websocket:
        # It would count the messages of a connection that stays open for days.
        config[_BODY_SIZE] = _disabled()
        config[sessions.FILTER] = sessions.enabled()
    return config


def gateway_answers() -> dict[str, Any]:
    """For what Envoy answers itself: nobody else is asked."""
    return {_EXT_AUTHZ: _unchecked(), rate_limits.FILTER: _disabled()}


def _client_address() -> HeaderMutation:
    """The address that is trusted, for authz's audit and for upstreams."""
    return HeaderMutation(
        mutations=Mutations(
            request_mutations=[
                Mutation(
                    append=wire.header(
                        contracts.HEADER_CLIENT_ADDRESS,
                        "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                        HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
                    )
                )
            ],
            # Also those that an upstream, a gateway itself, may send.
            response_mutations=[
                Mutation(
                    remove_on_match=HeaderMutationRemoveOnMatch(
                        key_matcher=StringMatcher(prefix="x-envoy-")
                    )
                )
            ],
        )
    )


def _ext_authz() -> ExtAuthz:
    return ExtAuthz(
        transport_api_version=ApiVersion.V3,
        grpc_service=wire.grpc_service(
            AUTHZ, timeout_s=AUTHZ_TIMEOUT_S, retries=2, back_off_s=(0.005, 0.25)
        ),
        failure_mode_allow=False,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        validate_mutations=True,
        bootstrap_metadata_labels_key=contracts.NODE_LABELS,
        allowed_headers=ListStringMatcher(
            patterns=[StringMatcher(exact=name) for name in _AUTHZ_HEADERS]
        ),
    )


@lru_cache(maxsize=20_000)
def _policy(
    route_id: str, auth: str, roles: tuple[str, ...], service: str, *, outlives: bool
) -> Any:
    return wire.pack(
        ExtAuthzPerRoute(
            check_settings=CheckSettings(
                context_extensions={
                    contracts.CONTEXT_ROUTE: route_id,
                    contracts.CONTEXT_AUTH: auth,
                    contracts.CONTEXT_ROLES: ",".join(roles),
                    contracts.CONTEXT_SERVICE: service,
                    **({contracts.CONTEXT_SESSION: "true"} if outlives else {}),
                }
            )
        )
    )


@lru_cache(maxsize=1)
def _unchecked() -> Any:
    return wire.pack(ExtAuthzPerRoute(disabled=True))


@lru_cache(maxsize=1)
def _disabled() -> Any:
    return wire.pack(FilterConfig(disabled=True))
