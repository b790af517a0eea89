"""Long connections end with the token that opened them (ext_proc on such routes).

Headers and trailers only: the stream to authz lives as long as the connection and
carries none of its messages. authz ends the connection over it.
"""

from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import GrpcService, GrpcServiceEnvoyGrpc
from envoy_data_plane.envoy.config.route.v3 import FilterConfig
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import (
    ExternalProcessor,
    MetadataOptions,
    MetadataOptionsMetadataNamespaces,
    ProcessingMode,
    ProcessingModeBodySendMode,
    ProcessingModeHeaderSendMode,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: E501 - Envoy's name
    HttpFilter,
)
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.protobuf import Any

from control.xds import wire
from control.xds.deployment import OnAuthzDown
from runtime import contracts

FILTER = "envoy.filters.http.ext_proc"
#: The same processes as for single decisions, but a cluster of its own: sockets that
#: stay open must not use up what those decisions need.
CLUSTER = "authz:sessions"

ANSWER_TIMEOUT_S = 0.5


def http_filter(on_authz_down: OnAuthzDown) -> HttpFilter:
    """Off but on routes that ask for it."""
    return HttpFilter(
        name=FILTER, disabled=True, typed_config=wire.pack(_processor(on_authz_down))
    )


@lru_cache(maxsize=1)
def enabled() -> Any:
    return wire.pack(FilterConfig(config=Any()))


def _processor(on_authz_down: OnAuthzDown) -> ExternalProcessor:
    skip = ProcessingModeHeaderSendMode.SKIP
    send = ProcessingModeHeaderSendMode.SEND
    none = ProcessingModeBodySendMode.NONE
    return ExternalProcessor(
        grpc_service=GrpcService(
            # No timeout: it lives as long as the connection.
            envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=CLUSTER)
        ),
        failure_mode_allow=on_authz_down is OnAuthzDown.KEEP,
        processing_mode=ProcessingMode(
            request_header_mode=send,
            response_header_mode=send,
            request_body_mode=none,
            response_body_mode=none,
            request_trailer_mode=skip,
            # Waiting for trailers is what keeps the stream open.
            response_trailer_mode=send,
        ),
        message_timeout=wire.duration(ANSWER_TIMEOUT_S),
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        metadata_options=MetadataOptions(
            # What authz itself has found out of this request; nothing of the client's.
            forwarding_namespaces=MetadataOptionsMetadataNamespaces(
                untyped=[contracts.AUTHZ_NAMESPACE]
            )
        ),
    )
