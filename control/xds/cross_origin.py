"""CORS: the gateway answers preflights itself, without asking who calls."""

from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import HeaderValueOptionHeaderAppendAction
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.config.route.v3 import (
    Route as EnvoyRoute,
)
from envoy_data_plane.envoy.extensions.filters.http.cors.v3 import CorsPolicy
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any

from control.cors import Cors, origin_pattern
from control.model import Route
from control.values import seconds
from control.xds import filters, wire

_ASKED_METHOD = "access-control-request-method"
#: An upstream's own opinion would stand beside the gateway's.
_UPSTREAMS = (
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "access-control-max-age",
)


def apply(route: Route, envoy_route: EnvoyRoute, methods: tuple[str, ...]) -> None:
    """Add to a route what its document asks; `methods` when it names none itself."""
    if route.cors is None:
        return
    policy = _policy(route.cors, route.methods or methods)
    envoy_route.typed_per_filter_config[filters.CORS] = policy
    envoy_route.response_headers_to_remove = list(_UPSTREAMS)
    # The answer differs by origin: a cache must not give one's to another.
    append = HeaderValueOptionHeaderAppendAction.APPEND_IF_EXISTS_OR_ADD
    envoy_route.response_headers_to_add = [wire.header("vary", "origin", append)]


def preflight(methods: tuple[str, ...]) -> list[HeaderMatcher]:
    """What makes a request a preflight for one of the methods.

    Its route is the real one with these beside: the filter answers before authz is
    asked, and should it ever not, authz is asked.
    """
    return [
        HeaderMatcher(name=":method", string_match=StringMatcher(exact="OPTIONS")),
        HeaderMatcher(name="origin", present_match=True),
        HeaderMatcher(
            name=_ASKED_METHOD,
            string_match=StringMatcher(
                safe_regex=RegexMatcher(regex="|".join(methods))
            ),
        ),
    ]


@lru_cache(maxsize=1000)
def _policy(cors: Cors, methods: tuple[str, ...]) -> Any:
    return wire.pack(
        CorsPolicy(
            allow_origin_string_match=[
                StringMatcher(safe_regex=RegexMatcher(regex=origin_pattern(one)))
                for one in cors.origins
            ],
            allow_methods=", ".join(methods),
            allow_headers=", ".join(cors.headers),
            expose_headers=", ".join(cors.expose),
            max_age=f"{seconds(cors.max_age):.0f}",
            allow_credentials=cors.credentials,
            forward_not_matching_preflights=False,
        )
    )
