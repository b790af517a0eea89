"""The addresses of a service."""

from collections.abc import Iterable
from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import Address
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)

from control.values import Instance
from control.xds import wire


@lru_cache(maxsize=4096)
def assignment_bytes(name: str, instances: tuple[Instance, ...]) -> bytes:
    return bytes(assignment(name, instances))


def assignment(name: str, instances: Iterable[Instance]) -> ClusterLoadAssignment:
    return endpoints(name, (wire.socket(one.host, one.port) for one in instances))


def endpoints(name: str, *groups: Iterable[Address]) -> ClusterLoadAssignment:
    """A group gets requests when those before it are not well."""
    return ClusterLoadAssignment(
        cluster_name=name,
        endpoints=[
            LocalityLbEndpoints(
                priority=number,
                lb_endpoints=[
                    LbEndpoint(endpoint=Endpoint(address=one)) for one in group
                ],
            )
            for number, group in enumerate(groups)
        ],
    )
