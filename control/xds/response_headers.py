"""What every answer carries, and what none does."""

from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
)

from control.edge import Edge
from control.xds import wire

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}
#: Only where TLS ends in front of us: over plain HTTP browsers must ignore it.
STRICT_TRANSPORT = {"strict-transport-security": "max-age=31536000; includeSubDomains"}
#: Of what the gateway says itself, a browser need load and frame nothing.
OWN_PAGES = {"content-security-policy": "default-src 'none'; frame-ancestors 'none'"}

HIDDEN_HEADERS = (
    "server",
    "x-powered-by",
    "x-envoy-upstream-service-time",
    "x-envoy-attempt-count",
    "x-envoy-overloaded",
    "x-envoy-degraded",
)


def security_headers(
    edge: Edge, action: HeaderValueOptionHeaderAppendAction
) -> list[HeaderValueOption]:
    """For every answer, also an upstream's."""
    texts = {**SECURITY_HEADERS, **(STRICT_TRANSPORT if edge.tls_in_front else {})}
    return [wire.header(name, text, action) for name, text in texts.items()]


def own_headers(edge: Edge) -> list[HeaderValueOption]:
    """For what the gateway says itself."""
    action = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
    pages = [wire.header(name, text, action) for name, text in OWN_PAGES.items()]
    return [*security_headers(edge, action), *pages]
