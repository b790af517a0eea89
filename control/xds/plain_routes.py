"""Requests that are no provider's to answer are marked, so that less is logged of them.

The mark says "plain", not "ai": what has none is logged in full. So nothing is lost
while a listener is new and its routes are not, or the other way round.
"""

from functools import lru_cache

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLogFilter, MetadataFilter
from envoy_data_plane.envoy.config.route.v3 import FilterConfig
from envoy_data_plane.envoy.extensions.filters.http.set_metadata.v3 import (
    Config,
    Metadata,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: E501 - Envoy's name
    HttpFilter,
)
from envoy_data_plane.envoy.type.matcher.v3 import (
    MetadataMatcher,
    MetadataMatcherPathSegment,
    ValueMatcher,
)
from envoy_data_plane.google.protobuf import Any, Struct, Value

from control.xds import wire

FILTER = "envoy.filters.http.set_metadata"
_NAMESPACE = "hubgate.plain"
_KEY = "plain"


def http_filter() -> HttpFilter:
    """Sets the mark where routes ask for it."""
    mark = Struct(fields={_KEY: Value(bool_value=True)})
    config = Config(metadata=[Metadata(metadata_namespace=_NAMESPACE, value=mark)])
    return HttpFilter(name=FILTER, disabled=True, typed_config=wire.pack(config))


@lru_cache(maxsize=1)
def everywhere() -> dict[str, Any]:
    """For every route that says nothing else."""
    return {FILTER: wire.pack(FilterConfig(config=Any()))}


@lru_cache(maxsize=1)
def not_here() -> dict[str, Any]:
    """For a route whose answers are logged in full."""
    return {FILTER: wire.pack(FilterConfig(disabled=True))}


def only(*, plain: bool) -> AccessLogFilter:
    """Every request is either plain or not."""
    matcher = MetadataMatcher(
        filter=_NAMESPACE,
        path=[MetadataMatcherPathSegment(key=_KEY)],
        value=ValueMatcher(bool_match=plain),
    )
    return AccessLogFilter(
        metadata_filter=MetadataFilter(
            matcher=matcher, match_if_key_not_found=not plain
        )
    )
