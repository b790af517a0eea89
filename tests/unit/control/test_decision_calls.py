"""What Envoy is told where one call answers both questions, and where two do."""

import json
from dataclasses import replace
from typing import Any

from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.http.ratelimit.v3 import rate_limit_pb2

from control.xds.snapshot import ResourceType, build
from runtime.contracts import DecisionCalls
from tests.unit.control.test_snapshot import FILTER, HERE, a_config, manager, named


def in_one_call(**route: Any) -> tuple[dict[str, str], Any]:
    """What authz is told of a route, and what the ratelimit filter is."""
    together = replace(HERE, calls=DecisionCalls.ONE)
    config = a_config({"id": "a", "path": "/a", **route})
    content = build(config, together, {}).of(ResourceType.ROUTES)["gateway"]
    (host,) = route_pb2.RouteConfiguration.FromString(content).virtual_hosts
    packed = named("a", list(host.routes))[0].typed_per_filter_config
    policy = ext_authz_pb2.ExtAuthzPerRoute()
    policy.ParseFromString(packed[f"{FILTER}.ext_authz"].value)
    told = json.loads(policy.check_settings.context_extensions["policy"])
    return told, packed[f"{FILTER}.ratelimit"]


def is_off(packed: Any) -> bool:
    return bool(route_components_pb2.FilterConfig.FromString(packed.value).disabled)


def test_authz_is_told_to_ask_for_limits_and_envoy_asks_no_more() -> None:
    told, limits = in_one_call()

    assert told["limits"] == "requests"
    assert is_off(limits)


def test_only_what_an_answer_took_is_a_second_call() -> None:
    told, limits = in_one_call(ai=True)
    per_route = rate_limit_pb2.RateLimitPerRoute.FromString(limits.value)

    assert told["limits"] == "tokens"
    assert [one.apply_on_stream_done for one in per_route.rate_limits] == [True]


def test_nobody_asks_for_limits_of_an_unlimited_route() -> None:
    told, limits = in_one_call(rate_limit="none", ai=True)

    assert "limits" not in told
    assert is_off(limits)


def test_the_counters_are_logged_from_whoever_told_them() -> None:
    one, two = (
        str(manager(replace(HERE, calls=calls)).access_log) for calls in DecisionCalls
    )

    assert "http.ext_authz:counters" in one
    assert "http.ratelimit:counters" not in one
    assert "http.ratelimit:counters" in two
