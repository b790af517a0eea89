"""Pieces that every builder needs: packing, structs, durations, gRPC services."""

from datetime import timedelta
from importlib.resources import files

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    BackoffStrategy,
    ConfigSource,
    DataSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    Pipe,
    RetryPolicy,
    RetryPolicyRetryHostPredicate,
    RetryPolicyRetryPriority,
    SocketAddress,
)
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import (
    PreviousHostsPredicate,
)
from envoy_data_plane.envoy.extensions.retry.priority.previous_priorities.v3 import (
    PreviousPrioritiesConfig,
)
from envoy_data_plane.google.protobuf import Any, Struct, Value
from google.protobuf import json_format, struct_pb2
from xds.type.v3 import typed_struct_pb2  # type: ignore[import-untyped]  # no stubs

from runtime import settings

_TYPE = "type.googleapis.com/"
TYPED_STRUCT = f"{_TYPE}xds.type.v3.TypedStruct"

#: How often a retry looks for a host not tried before. Least-request likes the dead
#: one best (nothing is under way there), so that few looks find it again and again.
HOST_TRIES = 30
PREVIOUS_HOSTS = "envoy.retry_host_predicates.previous_hosts"


def pack(message: betterproto2.Message) -> Any:
    return Any.pack(message)


def pack_untyped(type_name: str, value: dict[str, object]) -> Any:
    """A message that the typed package lacks, as Envoy's TypedStruct."""
    body = json_format.ParseDict(value, struct_pb2.Struct())
    message = typed_struct_pb2.TypedStruct(type_url=_TYPE + type_name, value=body)
    return Any(
        type_url=TYPED_STRUCT, value=message.SerializeToString(deterministic=True)
    )


def script(name: str) -> Any:
    """A Lua filter with a script that stands beside this file."""
    text = files("control.xds").joinpath(name).read_text()
    return pack(
        Lua(
            default_source_code=DataSource(inline_string=text),
            # No route depends on what scripts set: the one that was found stays.
            clear_route_cache=False,
        )
    )


def text_struct(values: dict[str, str]) -> Struct:
    return Struct(
        fields={key: Value(string_value=value) for key, value in values.items()}
    )


def duration(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def ads() -> ConfigSource:
    return ConfigSource(
        ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3
    )


def socket(host: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def address_of(address: settings.Address) -> Address:
    if address.path is not None:
        return Address(pipe=Pipe(path=address.path))
    return socket(address.host, address.port)


def header(
    name: str, value: str, action: HeaderValueOptionHeaderAppendAction
) -> HeaderValueOption:
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value), append_action=action
    )


def grpc_service(
    cluster: str,
    *,
    timeout_s: float,
    retries: int,
    back_off_s: tuple[float, float],
    at_work: int | None = None,
) -> GrpcService:
    """`timeout_s` covers all tries; a retry asks another process when there is one.

    `at_work`: so many processes are asked first; the others, which stand by, when
    that fails. None: none stands by.

    The longest back-off is also what one try may take: Envoy makes it the per-try
    timeout of a gRPC service's retry policy.
    """
    base, longest = back_off_s
    return GrpcService(
        envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=cluster),
        timeout=duration(timeout_s),
        retry_policy=RetryPolicy(
            retry_on="connect-failure,refused-stream,reset,unavailable",
            num_retries=retries,
            retry_back_off=BackoffStrategy(
                base_interval=duration(base), max_interval=duration(longest)
            ),
            # Envoy compares all of this with itself for every request, most slowly what
            # is packed. One at work is not asked again before those that stand by.
            retry_host_predicate=[] if at_work == 1 else [_another_host()],
            host_selection_retry_max_attempts=HOST_TRIES,
            retry_priority=None if at_work is None else _others_first(),
        ),
    )


def _another_host() -> RetryPolicyRetryHostPredicate:
    return RetryPolicyRetryHostPredicate(
        name=PREVIOUS_HOSTS, typed_config=pack(PreviousHostsPredicate())
    )


def _others_first() -> RetryPolicyRetryPriority:
    return RetryPolicyRetryPriority(
        name="envoy.retry_priorities.previous_priorities",
        typed_config=pack(PreviousPrioritiesConfig(update_frequency=1)),
    )
