"""What a request may not bring along, removed before anything reads it."""

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import (
    HeaderMutation as Mutation,
)
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import (
    HeaderMutationRemoveOnMatch,
)
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (  # noqa: E501 - Envoy's name
    HeaderMutation,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from control.edge import Edge
from control.xds import wire
from runtime.contracts import STRIPPED_REQUEST_HEADERS

#: Whatever begins so is ours to say: identity, usage, and orders to Envoy's router.
#: Names with underscores never get here: the listener drops them.
OWN_PREFIXES = ("x-user-", "x-usage-", "x-envoy-")

#: Frameworks let these change the method, the path or the client's address behind the
#: gateway's back.
OVERRIDES = (
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-rewrite-url",
    "x-override-url",
    "x-accel-redirect",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "forwarded",
    "proxy",
)
#: Believed when proxies of ours are in front, who overwrite them. Else a client's host,
#: path or user would pass, and its addresses stand before the one that Envoy adds.
OF_TRUSTED_PROXIES = "x-forwarded-"


def removed_headers(edge: Edge) -> TypedExtensionConfig:
    """An early header mutation."""
    names = (*STRIPPED_REQUEST_HEADERS, *OVERRIDES)
    proxies = () if edge.trusted_hops else (OF_TRUSTED_PROXIES,)
    mutations = [Mutation(remove=name) for name in names]
    mutations += [
        Mutation(
            remove_on_match=HeaderMutationRemoveOnMatch(
                key_matcher=StringMatcher(prefix=prefix)
            )
        )
        for prefix in (*OWN_PREFIXES, *proxies)
    ]
    return TypedExtensionConfig(
        name="removed_headers",
        typed_config=wire.pack(HeaderMutation(mutations=mutations)),
    )
