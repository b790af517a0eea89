"""A snapshot as one static bootstrap, for `envoy --mode validate`.

There is no control plane while validating: routes are inlined into the listener, and
addresses into their clusters. Messages of the official protobuf package, which keeps
fields it does not know.
"""

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as manager_pb2,
)

from control.xds.routes import ROUTES_NAME
from control.xds.snapshot import ResourceType, Snapshot


def static_bootstrap(snapshot: Snapshot, standalone_listener: bytes) -> bytes:
    """The bootstrap, serialised (a `.pb` file for Envoy)."""
    bootstrap = bootstrap_pb2.Bootstrap()
    bootstrap.node.id = bootstrap.node.cluster = "validate"
    for name, content in snapshot.of(ResourceType.CLUSTER).items():
        bootstrap.static_resources.clusters.append(_static(snapshot, name, content))
    routes = snapshot.of(ResourceType.ROUTES)[ROUTES_NAME]
    bootstrap.static_resources.listeners.append(_routed(standalone_listener, routes))
    return bytes(bootstrap.SerializeToString())


def _static(snapshot: Snapshot, name: str, content: bytes) -> cluster_pb2.Cluster:
    cluster = cluster_pb2.Cluster.FromString(content)
    if cluster.type == cluster_pb2.Cluster.EDS:
        cluster.type = cluster_pb2.Cluster.STATIC
        cluster.ClearField("eds_cluster_config")
        addresses = snapshot.of(ResourceType.ENDPOINTS)[name]
        cluster.load_assignment.CopyFrom(
            endpoint_pb2.ClusterLoadAssignment.FromString(addresses)
        )
    return cluster


def _routed(content: bytes, routes: bytes) -> listener_pb2.Listener:
    listener = listener_pb2.Listener.FromString(content)
    packed = listener.filter_chains[0].filters[0].typed_config
    manager = manager_pb2.HttpConnectionManager.FromString(packed.value)
    manager.route_config.ParseFromString(routes)
    packed.value = manager.SerializeToString()
    return listener
