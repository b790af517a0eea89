"""One record per request, to usage_sink and, beside it, to a file.

All transports carry `ACCESS_LOG_ATTRIBUTES`, as text, and the query
parameters that the operator listed.
"""

from collections.abc import Iterator

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
    AccessLogFilter,
    AndFilter,
    LogTypeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    GrpcService,
    SubstitutionFormatString,
)
from envoy_data_plane.envoy.data.accesslog.v3 import AccessLogType
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.envoy.extensions.access_loggers.grpc.v3 import (
    CommonGrpcAccessLogConfig,
    HttpGrpcAccessLogConfig,
)
from envoy_data_plane.envoy.extensions.access_loggers.open_telemetry.v3 import (
    OpenTelemetryAccessLogConfig,
)
from envoy_data_plane.envoy.type.tracing.v3 import CustomTag
from envoy_data_plane.opentelemetry.proto.common.v1 import (
    AnyValue,
    KeyValue,
    KeyValueList,
)

from control.edge import Edge
from control.xds import plain_routes, wire
from control.xds.deployment import Deployment, LogTransport
from runtime.contracts import AUTHZ_NAMESPACE, DecisionCalls, limit_counters
from runtime.contracts.access_log import (
    ACCESS_LOG_ATTRIBUTES,
    LOG_AI_PREFIXES,
    LOG_FIELDS,
    LOG_FREE_TEXTS,
    LOG_LIMITS,
    LOG_SEPARATOR,
    QUERY_NAMES,
    QUERY_VALUE,
)

USAGE_SINK = "usage_sink"
LOG_NAME = "hubgate"

#: Characters of a query parameter.
MAX_PARAMETER = 128

FLUSH_INTERVAL_S = 0.2
#: Only under load a batch gets so large before its interval ends: a call for each 200
#: records costs the sink a third less than one for each 50. Envoy keeps 64 KiB of a
#: call to repeat it: what is larger, if only by its last record, does not come again
#: to a sink that was away.
BUFFER_BYTES = 56 * 1024
#: A batch is retried for so long; what is lost then is found in the file log.
RETRY_FOR_S = 3600.0
#: Ends the names of the loggers with fewer attributes.
PLAIN = "_plain"
#: No characters of the method. In JSON a command that stands alone becomes a protobuf
#: value, not a text, and to copy a piece of metadata so takes half of a line's time.
_NOTHING = "%REQ(:METHOD):0%"


def access_logs(deployment: Deployment, edge: Edge) -> list[AccessLog]:
    """The usage log, and the file log when there is a path for it.

    Each twice: of a request one of the two writes, the plain one with fewer attributes.
    """
    every = _attributes(deployment.calls, edge)
    few = {
        name: text
        for name, text in every.items()
        if not name.startswith(LOG_AI_PREFIXES)
    }
    logs = []
    for attributes, suffix in ((every, ""), (few, PLAIN)):
        for one in _of(deployment, attributes):
            one.name += suffix
            one.filter = _ended(plain=attributes is few)
            logs.append(one)
    return logs


def _of(deployment: Deployment, attributes: dict[str, str]) -> Iterator[AccessLog]:
    if deployment.usage_sink:
        match deployment.log_transport:
            case LogTransport.OTLP:
                yield _otlp(attributes)
            case LogTransport.ALS:
                yield _als(attributes)
    if deployment.log_file is not None:
        yield _file(deployment.log_file, attributes)


def _attributes(calls: DecisionCalls, edge: Edge) -> dict[str, str]:
    found = dict(ACCESS_LOG_ATTRIBUTES)
    if calls is DecisionCalls.ONE:
        found[LOG_LIMITS] = limit_counters(AUTHZ_NAMESPACE)
    if listed := edge.logged_query_parameters:
        found[QUERY_NAMES] = ",".join(listed)
        for name in listed:
            found[f"{QUERY_VALUE}{name}"] = f"%QUERY_PARAM({name}):{MAX_PARAMETER}%"
    return found


def _otlp(attributes: dict[str, str]) -> AccessLog:
    free = {name: text for name, text in attributes.items() if _is_free(name)}
    joined = {name: text for name, text in attributes.items() if name not in free}
    # `common_config` although it is deprecated: beside the newer top-level fields
    # Envoy 1.40 ignores the flush interval and the buffer size.
    config = OpenTelemetryAccessLogConfig(
        common_config=_common(),
        resource_attributes=_key_values({LOG_FIELDS: ",".join(joined)}),
        body=AnyValue(string_value=LOG_SEPARATOR.join(joined.values())),
        attributes=_key_values(free),
    )
    return AccessLog(name="usage_otlp", typed_config=wire.pack(config))


def _is_free(name: str) -> bool:
    return name in LOG_FREE_TEXTS or name.startswith(QUERY_VALUE)


def _key_values(texts: dict[str, str]) -> KeyValueList:
    return KeyValueList(
        values=[
            KeyValue(key=key, value=AnyValue(string_value=text))
            for key, text in texts.items()
        ]
    )


def _als(attributes: dict[str, str]) -> AccessLog:
    common = _common()
    common.custom_tags = [
        CustomTag(tag=key, value=text) for key, text in attributes.items()
    ]
    config = HttpGrpcAccessLogConfig(common_config=common)
    return AccessLog(name="usage_als", typed_config=wire.pack(config))


def _file(path: str, attributes: dict[str, str]) -> AccessLog:
    texts = {
        name: f"{text}{_NOTHING}" if "METADATA(" in text else text
        for name, text in attributes.items()
    }
    config = FileAccessLog(
        path=path,
        log_format=SubstitutionFormatString(json_format=wire.text_struct(texts)),
    )
    return AccessLog(name="file", typed_config=wire.pack(config))


def _common() -> CommonGrpcAccessLogConfig:
    return CommonGrpcAccessLogConfig(
        log_name=LOG_NAME,
        transport_api_version=ApiVersion.V3,
        buffer_flush_interval=wire.duration(FLUSH_INTERVAL_S),
        buffer_size_bytes=BUFFER_BYTES,
        grpc_service=_sink(),
    )


def _sink() -> GrpcService:
    return wire.grpc_service(
        USAGE_SINK, timeout_s=RETRY_FOR_S, retries=100_000, back_off_s=(0.2, 5.0)
    )


def _ended(*, plain: bool) -> AccessLogFilter:
    # Only the last entry of a stream: the others repeat its bytes.
    last = AccessLogFilter(
        log_type_filter=LogTypeFilter(types=[AccessLogType.DownstreamEnd])
    )
    both = AndFilter(filters=[last, plain_routes.only(plain=plain)])
    return AccessLogFilter(and_filter=both)
