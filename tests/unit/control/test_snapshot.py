import json
from dataclasses import replace
from typing import Any

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as manager_pb2,
)

from control.model import GatewayConfig
from control.parse import from_document
from control.values import UnknownVariable
from control.xds.bootstrap import static_bootstrap
from control.xds.deployment import Deployment, LogTransport
from control.xds.filters import AUTHZ_TIMEOUT_S
from control.xds.listeners import standalone_listener
from control.xds.rate_limits import TIMEOUT_S
from control.xds.snapshot import ResourceType, Snapshot, build
from runtime.contracts import DecisionCalls
from runtime.settings import Address

FILTER = "envoy.filters.http"
UNIX = (Address(path="/run/x.sock"),)
HERE = Deployment(
    listen=Address(host="127.0.0.1", port=3000),
    authz=(Address(path="/run/a.sock"), Address(path="/run/b.sock")),
    ratelimit=UNIX,
    usage_sink=UNIX,
    control=Address(host="127.0.0.1", port=8000),
    calls=DecisionCalls.TWO,
)


def a_config(*routes: dict[str, Any], **services: list[str]) -> GatewayConfig:
    known = services or {"core": ["127.0.0.1:1"]}
    config: GatewayConfig = from_document(
        {
            "version": 1,
            "services": {name: {"instances": one} for name, one in known.items()},
            "routes": [{"service": next(iter(known)), **one} for one in routes],
        }
    )
    return config


def a_snapshot(*routes: dict[str, Any], **services: list[str]) -> Snapshot:
    return build(a_config(*routes, **services), HERE, {})


def envoy_routes(*routes: dict[str, Any]) -> list[Any]:
    content = a_snapshot(*routes).of(ResourceType.ROUTES)["gateway"]
    (host,) = route_pb2.RouteConfiguration.FromString(content).virtual_hosts
    return list(host.routes)


OWN = {"method_refused", "health", "ready", "metrics", "not_found"}


def theirs(*routes: dict[str, Any]) -> list[Any]:
    """Without the gateway's own."""
    return [one for one in envoy_routes(*routes) if one.name not in OWN]


def named(name: str, routes: list[Any]) -> list[Any]:
    return [one for one in routes if one.name == name]


def one_route(**route: Any) -> Any:
    return named("a", envoy_routes({"id": "a", **route}))[0]


def cluster(snapshot: Snapshot, name: str) -> Any:
    return cluster_pb2.Cluster.FromString(snapshot.of(ResourceType.CLUSTER)[name])


def manager(deployment: Deployment = HERE) -> Any:
    content = build(a_config(), deployment, {}).of(ResourceType.LISTENER)["gateway"]
    listener = listener_pb2.Listener.FromString(content)
    packed = listener.filter_chains[0].filters[0].typed_config
    return manager_pb2.HttpConnectionManager.FromString(packed.value)


def test_the_same_content_has_the_same_version() -> None:
    first, again = (
        a_snapshot({"id": "a", "path": "/a"}),
        a_snapshot({"id": "a", "path": "/a"}),
    )

    assert first.version == again.version


def test_a_new_route_changes_the_version_of_routes_only() -> None:
    before, after = a_snapshot(), a_snapshot({"id": "a", "path": "/a"})
    changed = [
        kind for kind in ResourceType if before.versions[kind] != after.versions[kind]
    ]

    assert changed == [ResourceType.ROUTES]
    assert before.version != after.version


def test_clusters_are_added_before_routes_and_none_is_removed_with_them() -> None:
    old = a_snapshot({"id": "a", "path": "/a"}, one=["127.0.0.1:1"])
    new = a_snapshot({"id": "a", "path": "/a"}, two=["127.0.0.1:2"])
    added, _, routed = old.steps_to(new)

    assert {"one", "two"} <= set(added.of(ResourceType.CLUSTER))
    assert added.versions[ResourceType.ROUTES] == old.versions[ResourceType.ROUTES]
    assert {"one", "two"} <= set(routed.of(ResourceType.CLUSTER))
    assert routed.versions[ResourceType.ROUTES] == new.versions[ResourceType.ROUTES]


def test_health_comes_first_and_the_404_last() -> None:
    names = [one.name for one in envoy_routes({"id": "a", "prefix": "/"})]

    assert names == [
        *("method_refused", "health", "ready", "ready", "metrics", "metrics"),
        *("a", "a"),  # what may be repeated, and what may not
        "not_found",
    ]


def test_a_prefix_ends_at_a_slash() -> None:
    assert one_route(prefix="/api/x").match.path_separated_prefix == "/api/x"
    assert one_route(prefix="/api/x/").match.prefix == "/api/x/"
    assert one_route(path="/x").match.path == "/x"
    assert one_route(regex="/x.*").match.safe_regex.regex == "/x.*"


def test_a_rewrite_to_the_root_makes_no_double_slash() -> None:
    plain = one_route(prefix="/api/x", prefix_rewrite="/y")
    root = one_route(prefix="/api/x", prefix_rewrite="/")

    assert plain.route.prefix_rewrite == "/y"
    assert root.route.regex_rewrite.pattern.regex == "^/api/x(/|$)"
    assert root.route.regex_rewrite.substitution == "/"


def test_a_method_that_is_not_listed_gets_405_with_allow() -> None:
    route, other = theirs({"id": "a", "path": "/a", "methods": ["PUT", "GET"]})

    assert route.match.headers[0].string_match.safe_regex.regex == "PUT|GET"
    assert other.direct_response.status == 405
    assert other.response_headers_to_add[0].header.value == "GET, PUT"


def test_routes_that_share_a_match_share_one_405() -> None:
    names = theirs(
        {"id": "a", "path": "/a", "methods": ["GET"]},
        {"id": "b", "path": "/a", "methods": ["PUT"]},
    )
    allow = names[2].response_headers_to_add[0].header.value

    assert [one.name for one in names[:2]] == ["a", "b"]
    assert allow == "GET, PUT"
    assert len(names) == 3


def test_a_match_with_a_route_for_any_method_has_no_405() -> None:
    routes = theirs(
        {"id": "a", "path": "/a", "methods": ["GET"]}, {"id": "b", "path": "/a"}
    )

    assert [one.name for one in routes] == ["a", "b", "b"]


def test_only_what_does_no_harm_twice_is_tried_again() -> None:
    again, once = theirs({"id": "a", "path": "/a"})
    listed = theirs({"id": "a", "path": "/a", "methods": ["GET", "POST"]})
    methods = [one.match.headers[0].string_match.safe_regex.regex for one in listed[:2]]

    assert "POST" not in again.match.headers[0].string_match.safe_regex.regex
    assert "gateway-error" in again.route.retry_policy.retry_on
    assert not once.match.headers
    assert once.route.retry_policy.retry_on == "connect-failure,refused-stream"
    assert methods == ["GET", "POST"]
    assert listed[1].route.retry_policy == once.route.retry_policy


@pytest.mark.parametrize(
    ("route", "policies"),
    [
        ({"retry": "none"}, [""]),
        ({"retry": "connect"}, ["connect-failure,refused-stream"]),
        ({"websocket": True}, ["connect-failure,refused-stream"]),
        ({"methods": ["POST"]}, ["connect-failure,refused-stream"]),
    ],
)
def test_a_route_may_ask_for_fewer_retries(
    route: dict[str, Any], policies: list[str]
) -> None:
    found = theirs({"id": "a", "path": "/a", **route})

    assert [
        one.route.retry_policy.retry_on for one in found if one.HasField("route")
    ] == policies


def test_a_routes_policy_travels_with_it() -> None:
    route = one_route(path="/a", roles=["admin", "ops"])
    packed = route.typed_per_filter_config["envoy.filters.http.ext_authz"]
    policy = ext_authz_pb2.ExtAuthzPerRoute.FromString(packed.value)

    told = dict(policy.check_settings.context_extensions)
    assert json.loads(told.pop("policy")) == {
        "route": "a",
        "auth": "required",
        "roles": "admin,ops",
        "service": "core",
    }
    assert told == {}


def test_what_envoy_answers_itself_asks_nobody() -> None:
    key = "envoy.filters.http.ext_authz"
    own = envoy_routes()

    assert {one.name for one in own} == OWN
    for one in own:
        policy = ext_authz_pb2.ExtAuthzPerRoute.FromString(
            one.typed_per_filter_config[key].value
        )
        assert policy.disabled


def test_an_unlimited_route_switches_the_limiter_off() -> None:
    key = "envoy.filters.http.ratelimit"
    limited = one_route(path="/a").typed_per_filter_config[key]
    free = one_route(path="/a", rate_limit="none").typed_per_filter_config[key]

    assert limited.type_url.endswith("RateLimitPerRoute")
    assert free.type_url.endswith("FilterConfig")


def test_only_ai_routes_have_their_answers_read() -> None:
    mark = f"{FILTER}.set_metadata"
    off = {one.name for one in manager().http_filters if one.disabled} - {mark}
    ai, plain = one_route(path="/a", ai=True), one_route(path="/a")
    readers = {
        f"{FILTER}.{name}" for name in ("ai_protocol_manager", "sse_to_metadata")
    }

    assert readers <= off & set(ai.typed_per_filter_config)
    assert list(ai.request_headers_to_remove) == ["accept-encoding"]
    assert not off & set(plain.typed_per_filter_config)


def test_a_stream_may_last_but_not_be_silent_for_ever() -> None:
    stream, call = one_route(path="/a", timeout="0s"), one_route(path="/a")

    assert stream.route.HasField("timeout")
    assert stream.route.timeout.ToSeconds() == 0
    assert stream.route.idle_timeout.ToSeconds() > 0
    assert call.route.timeout.ToSeconds() == 15


def test_websockets_are_refused_where_they_are_not_allowed() -> None:
    allowed, refused = one_route(path="/a", websocket=True), one_route(path="/a")

    assert allowed.route.upgrade_configs[0].enabled.value
    assert not refused.route.upgrade_configs[0].enabled.value


def test_addresses_come_by_eds_and_names_by_dns() -> None:
    snapshot = a_snapshot(ip=["127.0.0.1:1"], dns=["a.internal:1", "127.0.0.1:2"])

    assert cluster(snapshot, "ip").type == cluster_pb2.Cluster.EDS
    assert cluster(snapshot, "dns").type == cluster_pb2.Cluster.STRICT_DNS
    assert set(snapshot.of(ResourceType.ENDPOINTS)) == {"ip", "control"}


def test_a_sidecar_has_all_its_processes_and_an_ejection() -> None:
    authz = cluster(a_snapshot(), "authz")
    endpoints = authz.load_assignment.endpoints[0].lb_endpoints
    paths = [one.endpoint.address.pipe.path for one in endpoints]

    assert paths == ["/run/a.sock", "/run/b.sock"]
    assert authz.type == cluster_pb2.Cluster.STATIC
    assert authz.outlier_detection.consecutive_local_origin_failure.value == 5


def test_a_sidecar_may_be_a_name() -> None:
    named = replace(HERE, authz=(Address(host="authz", port=9001),))
    authz = cluster(build(a_config(), named, {}), "authz")

    assert authz.type == cluster_pb2.Cluster.STRICT_DNS


def test_a_silent_sidecar_leaves_most_of_the_time_to_its_sibling() -> None:
    shortest_s = min(*AUTHZ_TIMEOUT_S.values(), TIMEOUT_S)
    for name in ("authz", "ratelimit"):
        connect_s = cluster(a_snapshot(), name).connect_timeout.ToTimedelta()

        assert connect_s.total_seconds() <= 0.25 * shortest_s


def test_a_variable_moves_a_service_without_changing_the_document() -> None:
    config = a_config(core=["${HUBGATE_UPSTREAM_CORE:-127.0.0.1:1}"])
    moved = build(config, HERE, {"HUBGATE_UPSTREAM_CORE": "127.0.0.1:9"})

    assert moved.version != build(config, HERE, {}).version


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(UnknownVariable, match="HUBGATE_UPSTREAM_CORE"):
        build(a_config(core=["${HUBGATE_UPSTREAM_CORE}"]), HERE, {})


@pytest.mark.parametrize(
    ("deployment", "names"),
    [
        (HERE, ["usage_otlp", "usage_otlp_plain"]),
        (
            replace(HERE, log_transport=LogTransport.ALS),
            ["usage_als", "usage_als_plain"],
        ),
        (
            replace(HERE, log_file="/log"),
            ["usage_otlp", "file", "usage_otlp_plain", "file_plain"],
        ),
    ],
)
def test_the_access_log_goes_where_it_is_told(
    deployment: Deployment, names: list[str]
) -> None:
    assert [one.name for one in manager(deployment).access_log] == names


def test_a_script_makes_no_request_look_for_its_route_again() -> None:
    scripts = [
        lua_pb2.Lua.FromString(one.typed_config.value)
        for one in manager().http_filters
        if ".lua" in one.name
    ]

    assert len(scripts) == 1
    assert all(one.HasField("clear_route_cache") for one in scripts)
    assert not any(one.clear_route_cache.value for one in scripts)


def test_filters_run_from_identity_to_router() -> None:
    names = [one.name.rpartition(".")[2] for one in manager().http_filters]

    assert names == [
        "set_metadata",
        "rbac",
        "cors",
        "header_mutation",
        "ext_authz",
        "ratelimit",
        "ext_proc",
        "body_size_limit",
        "include_usage",
        "ai_protocol_manager",
        "sse_to_metadata",
        "gzip",
        "brotli",
        "zstd",
        "router",
    ]


def test_the_bootstrap_to_validate_needs_no_control_plane() -> None:
    snapshot, config = a_snapshot({"id": "a", "path": "/a"}), a_config()
    content = static_bootstrap(snapshot, standalone_listener(config, HERE))
    resources = bootstrap_pb2.Bootstrap.FromString(content).static_resources

    assert cluster_pb2.Cluster.EDS not in {one.type for one in resources.clusters}
    assert len(resources.listeners) == 1
