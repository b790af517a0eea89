"""Changes of the configuration that control builds for Envoy, each of one thing."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.access_loggers.open_telemetry.v3 import (
    logs_service_pb2 as otlp_pb2,
)
from envoy.extensions.filters.http.lua.v3 import lua_pb2

from control.xds.access_log import PLAIN
from runtime.contracts.access_log import LOG_SEPARATOR

_FILTER: Final = "envoy.filters.http."
#: Is given the bootstrap and its listener's HttpConnectionManager.
Change = Callable[[Any, Any], None]


def without_filters(*names: str) -> Change:
    def change(_: Any, manager: Any) -> None:
        kept = [
            one
            for one in manager.http_filters
            if one.name.removeprefix(_FILTER) not in names
        ]
        del manager.http_filters[:]
        manager.http_filters.extend(kept)
        _forget(manager.route_config, names)

    return change


def _forget(routes: Any, names: Sequence[str]) -> None:
    (host,) = routes.virtual_hosts
    for one in (routes, *host.routes):
        for name in names:
            one.typed_per_filter_config.pop(_FILTER + name, None)


def without_logs(*names: str) -> Change:
    def change(_: Any, manager: Any) -> None:
        kept = [
            one
            for one in manager.access_log
            if one.name.removesuffix(PLAIN) not in names
        ]
        del manager.access_log[:]
        manager.access_log.extend(kept)

    return change


def without_texts(*parts: str) -> Change:
    """Logs without the fields in whose format one of the parts is."""

    def is_left_out(text: str) -> bool:
        return any(part in text for part in parts)

    def change(_: Any, manager: Any) -> None:
        for log in manager.access_log:
            if log.name.removesuffix(PLAIN) == "file":
                config = file_pb2.FileAccessLog.FromString(log.typed_config.value)
                fields = config.log_format.json_format.fields
                for name in [*fields]:
                    if is_left_out(fields[name].string_value):
                        del fields[name]
            else:
                config = otlp_pb2.OpenTelemetryAccessLogConfig.FromString(
                    log.typed_config.value
                )
                texts = config.body.string_value.split(LOG_SEPARATOR)
                config.body.string_value = LOG_SEPARATOR.join(
                    text for text in texts if not is_left_out(text)
                )
                kept = [
                    one
                    for one in config.attributes.values
                    if not is_left_out(one.value.string_value)
                ]
                del config.attributes.values[:]
                config.attributes.values.extend(kept)
            log.typed_config.value = config.SerializeToString()

    return change


def cleared(*fields: str) -> Change:
    def change(_: Any, manager: Any) -> None:
        for name in fields:
            manager.ClearField(name)

    return change


def nothing(_: Any, __: Any) -> None:
    """As control builds it."""


def _no_stats(bootstrap: Any, _: Any) -> None:
    bootstrap.stats_config.stats_matcher.reject_all = True


def _deferred_stats(bootstrap: Any, _: Any) -> None:
    bootstrap.deferred_stat_options.enable_deferred_creation_stats = True


def _few_stats(bootstrap: Any, _: Any) -> None:
    patterns = bootstrap.stats_config.stats_matcher.exclusion_list.patterns
    for prefix in ("http.gateway.tracing", "listener.", "vhost.", "workers."):
        patterns.add().prefix = prefix


def _no_health_checks(bootstrap: Any, _: Any) -> None:
    for cluster in bootstrap.static_resources.clusters:
        del cluster.health_checks[:]
        cluster.ClearField("outlier_detection")


def _buffers(size: int) -> Change:
    """What a connection may hold, on either side; Envoy's own limit is a megabyte."""

    def change(bootstrap: Any, _: Any) -> None:
        resources = bootstrap.static_resources
        for one in (*resources.listeners, *resources.clusters):
            one.per_connection_buffer_limit_bytes.value = size

    return change


def _no_breakers(bootstrap: Any, _: Any) -> None:
    for cluster in bootstrap.static_resources.clusters:
        cluster.ClearField("circuit_breakers")


def _no_header_budgets(_: Any, manager: Any) -> None:
    manager.ClearField("max_request_headers_kb")
    manager.common_http_protocol_options.ClearField("max_headers_count")


def _route_again(_: Any, manager: Any) -> None:
    for one in manager.http_filters:
        if one.name == f"{_FILTER}lua":
            config = lua_pb2.Lua.FromString(one.typed_config.value)
            config.ClearField("clear_route_cache")
            one.typed_config.value = config.SerializeToString()


def _answer_headers(_: Any, manager: Any) -> None:
    manager.route_config.ClearField("response_headers_to_add")
    manager.route_config.ClearField("response_headers_to_remove")


def _method_route(_: Any, manager: Any) -> None:
    (host,) = manager.route_config.virtual_hosts
    kept = [one for one in host.routes if one.name != "method_refused"]
    del host.routes[:]
    host.routes.extend(kept)


def _bare(bootstrap: Any, manager: Any) -> None:
    without_logs("usage_otlp", "file")(bootstrap, manager)
    names = [one.name.removeprefix(_FILTER) for one in manager.http_filters]
    without_filters(*(one for one in names if one != "router"))(bootstrap, manager)


_OFF: Final = (
    *("ext_proc", "lua.include_usage", "ai_protocol_manager", "sse_to_metadata"),
    *("decompressor.gzip", "decompressor.brotli", "decompressor.zstd", "ratelimit"),
)
CHANGES: Final[dict[str, Change]] = {
    "everything": nothing,
    "nothing else": _bare,
    "no ext_authz": without_filters("ext_authz"),
    "no log": without_logs("usage_otlp", "file"),
    "no OTLP log": without_logs("usage_otlp"),
    "no file log": without_logs("file"),
    "logs without CEL": without_texts("%CEL"),
    "logs without metadata": without_texts("METADATA"),
    "logs without %RESP": without_texts("%RESP("),
    "no header mutation": without_filters("header_mutation"),
    "no early header mutation": cleared("early_header_mutation_extensions"),
    "no security headers": _answer_headers,
    "no RBAC": without_filters("rbac"),
    "no CORS": without_filters("cors"),
    "no body size limit": without_filters("body_size_limit"),
    "no filters that are off here": without_filters(*_OFF),
    "no local replies": cleared("local_reply_config"),
    "no path normalisation": cleared("normalize_path", "merge_slashes"),
    "no method route": _method_route,
    "no stats at all": _no_stats,
    "few stats": _few_stats,
    "deferred stats": _deferred_stats,
    "no health checks": _no_health_checks,
    "buffers of 16 KiB": _buffers(16 * 1024),
    "buffers of 1 MiB": _buffers(1024 * 1024),
    "no circuit breakers": _no_breakers,
    "no header budgets": _no_header_budgets,
    "Lua makes Envoy look for the route again": _route_again,
}
