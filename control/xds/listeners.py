"""The one HTTP listener: what a request must be before any route sees it.

Follows Envoy's page "configuring Envoy as an edge proxy" and, for the figures, what
was measured with 1.40.
"""

from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import (
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    HttpProtocolOptionsHeadersWithUnderscoresAction,
    KeepaliveSettings,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: E501 - Envoy's name
    HttpConnectionManager,
    HttpConnectionManagerCodecType,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpConnectionManagerServerHeaderTransformation,
    HttpConnectionManagerUpgradeConfig,
    Rds,
    RequestIdExtension,
)
from envoy_data_plane.envoy.extensions.request_id.uuid.v3 import UuidRequestIdConfig

from control.edge import Edge
from control.model import GatewayConfig
from control.values import seconds
from control.xds import wire
from control.xds.access_log import access_logs
from control.xds.deployment import Deployment
from control.xds.filters import http_filters
from control.xds.hygiene import removed_headers
from control.xds.local_replies import local_reply_config
from control.xds.routes import ROUTES_NAME

LISTENER_NAME = "gateway"

BUFFER_BYTES = 64 * 1024
IDLE_TIMEOUT_S = 300.0
STREAM_IDLE_TIMEOUT_S = 300.0


def listener(config: GatewayConfig, deployment: Deployment) -> bytes:
    """The listener; its routes come by RDS, so that they change alone."""
    return _over_ads(config.edge, config.limits.max_request_bytes, deployment)


def standalone_listener(config: GatewayConfig, deployment: Deployment) -> bytes:
    """The same without a control plane, for `envoy --mode validate`."""
    return _standalone(config.edge, config.limits.max_request_bytes, deployment)


@lru_cache(maxsize=4)
def _over_ads(edge: Edge, max_request_bytes: int, deployment: Deployment) -> bytes:
    """Kept, for it is most of a snapshot's cost and most changes are of routes."""
    manager = _manager(edge, max_request_bytes, deployment)
    manager.rds = Rds(config_source=wire.ads(), route_config_name=ROUTES_NAME)
    return _listener(manager, deployment)


@lru_cache(maxsize=4)
def _standalone(edge: Edge, max_request_bytes: int, deployment: Deployment) -> bytes:
    manager = _manager(edge, max_request_bytes, deployment)
    manager.route_config = RouteConfiguration(name=ROUTES_NAME)
    return _listener(manager, deployment)


def _listener(manager: HttpConnectionManager, deployment: Deployment) -> bytes:
    chain = FilterChain(
        filters=[
            Filter(
                name="envoy.filters.network.http_connection_manager",
                typed_config=wire.pack(manager),
            )
        ]
    )
    return bytes(
        Listener(
            name=LISTENER_NAME,
            address=wire.address_of(deployment.listen),
            per_connection_buffer_limit_bytes=BUFFER_BYTES,
            filter_chains=[chain],
        )
    )


def _manager(
    edge: Edge, max_request_bytes: int, deployment: Deployment
) -> HttpConnectionManager:
    return HttpConnectionManager(
        codec_type=HttpConnectionManagerCodecType.AUTO,
        stat_prefix=LISTENER_NAME,
        use_remote_address=True,
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=(
            HttpConnectionManagerPathWithEscapedSlashesAction.REJECT_REQUEST
        ),
        strip_any_host_port=True,
        server_header_transformation=(
            HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH
        ),
        always_set_request_id_in_response=True,
        request_id_extension=RequestIdExtension(
            # Without it Envoy marks its trace decision inside the UUID.
            typed_config=wire.pack(UuidRequestIdConfig(pack_trace_reason=False))
        ),
        early_header_mutation_extensions=[removed_headers(edge)],
        xff_num_trusted_hops=edge.trusted_hops,
        max_request_headers_kb=edge.max_header_kb,
        request_headers_timeout=wire.duration(seconds(edge.headers_timeout)),
        stream_idle_timeout=wire.duration(STREAM_IDLE_TIMEOUT_S),
        common_http_protocol_options=HttpProtocolOptions(
            idle_timeout=wire.duration(IDLE_TIMEOUT_S),
            max_headers_count=edge.max_headers,
            # Many servers read X_User_Id as X-User-Id.
            headers_with_underscores_action=(
                HttpProtocolOptionsHeadersWithUnderscoresAction.DROP_HEADER
            ),
        ),
        http_protocol_options=Http1ProtocolOptions(accept_http_10=False),
        http2_protocol_options=Http2ProtocolOptions(
            max_concurrent_streams=100,
            initial_stream_window_size=64 * 1024,
            initial_connection_window_size=1024 * 1024,
            connection_keepalive=KeepaliveSettings(
                interval=wire.duration(30.0), timeout=wire.duration(10.0)
            ),
        ),
        # Known to the listener, allowed by the route.
        upgrade_configs=[
            HttpConnectionManagerUpgradeConfig(upgrade_type="websocket", enabled=False)
        ],
        local_reply_config=local_reply_config(edge),
        http_filters=http_filters(max_request_bytes, deployment),
        access_log=access_logs(deployment, edge),
    )
