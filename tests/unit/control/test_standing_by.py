"""Sidecars that are asked, and those that stand by."""

from dataclasses import replace
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.http.ratelimit.v3 import rate_limit_pb2

from control.xds.snapshot import ResourceType, build
from runtime.settings import Address
from tests.unit.control.test_snapshot import FILTER, HERE, a_config, manager

THREE = tuple(Address(path=f"/{name}") for name in "abc")


def groups(name: str, at_work: int | None) -> list[list[str]]:
    """Who is asked first, who then."""
    there = replace(HERE, authz=THREE, ratelimit=THREE, sidecars_at_work=at_work)
    clusters = build(a_config(), there, {}).of(ResourceType.CLUSTER)
    found = cluster_pb2.Cluster.FromString(clusters[name]).load_assignment.endpoints
    assert [one.priority for one in found] == [*range(len(found))]
    return [
        [one.endpoint.address.pipe.path for one in group.lb_endpoints]
        for group in found
    ]


@pytest.mark.parametrize("name", ["authz", "ratelimit"])
def test_the_first_are_asked_and_the_others_stand_by(name: str) -> None:
    assert groups(name, 1) == [["/a"], ["/b", "/c"]]
    assert groups(name, 2) == [["/a", "/b"], ["/c"]]


@pytest.mark.parametrize("at_work", [None, 3, 8])
def test_without_spare_ones_all_are_asked(at_work: int | None) -> None:
    assert groups("authz", at_work) == [["/a", "/b", "/c"]]


def test_what_watches_long_connections_is_spread_over_all() -> None:
    assert groups("authz:sessions", 1) == [["/a", "/b", "/c"]]


def retries(at_work: int | None) -> list[Any]:
    """How authz and ratelimit are asked again."""
    there = replace(HERE, authz=THREE, ratelimit=THREE, sidecars_at_work=at_work)
    found = {one.name: one.typed_config.value for one in manager(there).http_filters}
    authz = ext_authz_pb2.ExtAuthz.FromString(found[f"{FILTER}.ext_authz"])
    limits = rate_limit_pb2.RateLimit.FromString(found[f"{FILTER}.ratelimit"])
    return [
        authz.grpc_service.retry_policy,
        limits.rate_limit_service.grpc_service.retry_policy,
    ]


def test_a_second_try_goes_to_those_that_stand_by() -> None:
    assert [one.retry_priority.name for one in retries(1)] == [
        "envoy.retry_priorities.previous_priorities"
    ] * 2
    assert not any(one.HasField("retry_priority") for one in retries(None))


@pytest.mark.parametrize(("at_work", "is_looked_at"), [(None, 1), (2, 1), (1, 0)])
def test_a_try_looks_for_another_process_where_several_are_asked_first(
    at_work: int | None, is_looked_at: int
) -> None:
    found = [len(one.retry_host_predicate) for one in retries(at_work)]

    assert found == [is_looked_at] * 2
