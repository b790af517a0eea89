"""The HTTP filters in their order, and what a route asks of each.

How much is logged of it (a mark, before anything can refuse the request), may this
client come in (RBAC), is it a preflight (CORS), may this request pass (ext_authz), how
many more (ratelimit), how large (body size), what did it use (AI answers only), then
the router.
"""

import json
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
from control.xds import (
    ai_answers,
    networks,
    plain_routes,
    rate_limits,
    sessions,
    wire,
)
from control.xds.deployment import Deployment
from runtime import contracts
from runtime.contracts import DecisionCalls, LimitScope

AUTHZ = "authz"
RATELIMIT = rate_limits.CLUSTER

_ADDRESS = "envoy.filters.http.header_mutation"
CORS = "envoy.filters.http.cors"
_EXT_AUTHZ = "envoy.filters.http.ext_authz"
_BODY_SIZE = "envoy.filters.http.body_size_limit"
_ROUTER = "envoy.filters.http.router"
_BODY_SIZE_TYPE = "envoy.extensions.filters.http.body_size_limit.v3.BodySizeLimit"

#: Of all tries, and of one. With limits in the same call a try that is given up too
#: soon is counted twice; a thousand clients at once are answered within a second.
AUTHZ_TIMEOUT_S = {DecisionCalls.ONE: 2.5, DecisionCalls.TWO: 0.6}
AUTHZ_TRY_S = {DecisionCalls.ONE: 1.0, DecisionCalls.TWO: 0.25}

#: What the services see of a request's headers: no more than they decide by.
_AUTHZ_HEADERS = (
    contracts.HEADER_AUTHORIZATION,
    contracts.HEADER_CLIENT_ADDRESS,
    contracts.HEADER_REQUEST_ID,
    contracts.HEADER_WEBSOCKET_PROTOCOL,
    contracts.HEADER_TRACE,
)


def http_filters(max_request_bytes: int, deployment: Deployment) -> list[HttpFilter]:
    """Every filter of the listener, first to last."""
    return [
        plain_routes.http_filter(),
        # Off, but where a route brings rules for it.
        HttpFilter(name=networks.FILTER, disabled=True, typed_config=networks.rbac()),
        HttpFilter(name=CORS, disabled=True, typed_config=wire.pack(CorsFilter())),
        HttpFilter(name=_ADDRESS, typed_config=wire.pack(_client_address())),
        HttpFilter(name=_EXT_AUTHZ, typed_config=wire.pack(_ext_authz(deployment))),
        HttpFilter(
            name=rate_limits.FILTER,
            typed_config=wire.pack(rate_limits.rate_limit(deployment.asked_first)),
        ),
        sessions.http_filter(deployment.websocket_on_authz_down),
        HttpFilter(
            name=_BODY_SIZE,
            typed_config=wire.pack_untyped(
                _BODY_SIZE_TYPE, {"max_request_bytes": max_request_bytes}
            ),
        ),
        *ai_answers.http_filters(),
        # Its x-envoy headers stay on requests: the access log finds the path before
        # a rewrite in one of them. Answers lose them by the route configuration.
        HttpFilter(name=_ROUTER, typed_config=wire.pack(Router())),
    ]


def per_route(route: Route, calls: DecisionCalls) -> dict[str, Any]:
    """What this route asks of the filters."""
    config = {
        _EXT_AUTHZ: _policy(_told(route, calls)),
        rate_limits.FILTER: _limits(route, calls),
    }
    if route.ai:
        config.update(ai_answers.enabled(include_usage=route.include_usage))
        config.update(plain_routes.not_here())
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


def _ext_authz(deployment: Deployment) -> ExtAuthz:
    calls = deployment.calls
    return ExtAuthz(
        transport_api_version=ApiVersion.V3,
        grpc_service=wire.grpc_service(
            AUTHZ,
            timeout_s=AUTHZ_TIMEOUT_S[calls],
            retries=2,
            back_off_s=(0.005, AUTHZ_TRY_S[calls]),
            at_work=deployment.asked_first,
        ),
        failure_mode_allow=False,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        validate_mutations=True,
        bootstrap_metadata_labels_key=contracts.NODE_LABELS,
        allowed_headers=ListStringMatcher(
            patterns=[StringMatcher(exact=name) for name in _AUTHZ_HEADERS]
        ),
    )


def _limits(route: Route, calls: DecisionCalls) -> Any:
    is_asked = calls is DecisionCalls.TWO
    if route.rate_limit == "none" or not (is_asked or route.ai):
        return _disabled()
    return rate_limits.per_route(route.id, is_asked=is_asked, ai=route.ai)


def _told(route: Route, calls: DecisionCalls) -> str:
    found = {
        contracts.CONTEXT_ROUTE: route.id,
        contracts.CONTEXT_AUTH: route.auth.value,
        contracts.CONTEXT_ROLES: ",".join(route.roles or ()),
        contracts.CONTEXT_SERVICE: route.service,
    }
    if route.websocket:
        found[contracts.CONTEXT_SESSION] = "true"
    if calls is DecisionCalls.ONE and route.rate_limit != "none":
        scope = LimitScope.TOKENS if route.ai else LimitScope.REQUESTS
        found[contracts.CONTEXT_LIMITS] = scope
    return json.dumps(found)


@lru_cache(maxsize=20_000)
def _policy(told: str) -> Any:
    settings = CheckSettings(context_extensions={contracts.CONTEXT_POLICY: told})
    return wire.pack(ExtAuthzPerRoute(check_settings=settings))


@lru_cache(maxsize=1)
def _unchecked() -> Any:
    return wire.pack(ExtAuthzPerRoute(disabled=True))


@lru_cache(maxsize=1)
def _disabled() -> Any:
    return wire.pack(FilterConfig(disabled=True))
