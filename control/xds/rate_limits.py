"""What Envoy asks `ratelimit`: before a request, and after an answer with tokens."""

from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import ApiVersion
from envoy_data_plane.envoy.config.ratelimit.v3 import RateLimitServiceConfig
from envoy_data_plane.envoy.config.route.v3 import (
    RateLimit as Descriptor,
)
from envoy_data_plane.envoy.config.route.v3 import (
    RateLimitAction,
    RateLimitActionGenericKey,
    RateLimitActionMetaData,
    RateLimitActionMetaDataSource,
    RateLimitActionRemoteAddress,
    RateLimitActionRequestHeaders,
    RateLimitHitsAddend,
)
from envoy_data_plane.envoy.extensions.filters.http.ratelimit.v3 import (
    RateLimit,
    RateLimitPerRoute,
)
from envoy_data_plane.envoy.type.metadata.v3 import (
    MetadataKey,
    MetadataKeyPathSegment,
)
from envoy_data_plane.google.protobuf import Any

from control.xds import wire
from runtime import contracts
from runtime.contracts.access_log import ACCESS_LOG_ATTRIBUTES

FILTER = "envoy.filters.http.ratelimit"
CLUSTER = "ratelimit"
TIMEOUT_S = 0.4
#: Longer than ratelimit ever takes: a try given up too soon is counted twice.
TRY_S = 0.2

#: The access log's own expression: what is charged is what is recorded.
_TOKENS = ACCESS_LOG_ATTRIBUTES["llm_total"]


def rate_limit(at_work: int | None) -> RateLimit:
    """The filter of the listener."""
    return RateLimit(
        domain=contracts.RATE_LIMIT_DOMAIN,
        timeout=wire.duration(TIMEOUT_S),
        failure_mode_deny=False,
        disable_x_envoy_ratelimited_header=True,
        rate_limit_service=RateLimitServiceConfig(
            transport_api_version=ApiVersion.V3,
            grpc_service=wire.grpc_service(
                CLUSTER,
                timeout_s=TIMEOUT_S,
                retries=2,
                back_off_s=(0.005, TRY_S),
                at_work=at_work,
            ),
        ),
    )


@lru_cache(maxsize=20_000)
def per_route(route_id: str, *, is_asked: bool, ai: bool) -> Any:
    """What a route asks; on `ai` routes once more when the answer has ended.

    `is_asked`: before the request, too; not where authz has done so.
    """
    # Without an explicit list Envoy ignores hits_addend and apply_on_stream_done.
    limits = []
    if is_asked:
        tokens = contracts.TOKENS_CHECK if ai else None
        limits.append(Descriptor(actions=_actions(route_id, tokens)))
    if ai:
        limits.append(
            Descriptor(
                actions=_actions(route_id, contracts.TOKENS_CHARGE),
                hits_addend=RateLimitHitsAddend(format=_TOKENS),
                apply_on_stream_done=True,
            )
        )
    return wire.pack(RateLimitPerRoute(rate_limits=limits))


def _actions(route_id: str, tokens: str | None) -> list[RateLimitAction]:
    actions = [
        _constant(contracts.DESCRIPTOR_ROUTE, route_id),
        _from_authz(
            contracts.DESCRIPTOR_ROLE,
            contracts.METADATA_ROLE,
            default=contracts.ROLE_GUEST,
        ),
        _from_authz(contracts.DESCRIPTOR_USER, contracts.METADATA_USER_ID),
        RateLimitAction(remote_address=RateLimitActionRemoteAddress()),
        RateLimitAction(
            request_headers=RateLimitActionRequestHeaders(
                header_name=contracts.HEADER_REQUEST_ID,
                descriptor_key=contracts.DESCRIPTOR_REQUEST_ID,
                skip_if_absent=True,
            )
        ),
    ]
    if tokens is not None:
        actions.append(_constant(contracts.DESCRIPTOR_TOKENS, tokens))
    return actions


def _constant(name: str, value: str) -> RateLimitAction:
    return RateLimitAction(
        generic_key=RateLimitActionGenericKey(
            descriptor_key=name, descriptor_value=value
        )
    )


def _from_authz(name: str, key: str, default: str = "") -> RateLimitAction:
    # Without `skip_if_absent` a guest's empty user would drop the whole descriptor,
    # and the guest would not be limited at all.
    return RateLimitAction(
        metadata=RateLimitActionMetaData(
            descriptor_key=name,
            source=RateLimitActionMetaDataSource.DYNAMIC,
            metadata_key=MetadataKey(
                key=contracts.AUTHZ_NAMESPACE, path=[MetadataKeyPathSegment(key=key)]
            ),
            default_value=default,
            skip_if_absent=True,
        )
    )
