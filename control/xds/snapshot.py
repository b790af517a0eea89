"""A whole configuration as Envoy gets it: immutable, versioned by its content."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Self

from control.model import GatewayConfig
from control.services import Service
from control.values import SERVICE_CONTROL, Instance, instance, substitute
from control.xds import (
    access_log,
    clusters,
    endpoints,
    filters,
    listeners,
    routes,
    sessions,
)
from control.xds.deployment import Deployment

_TYPE = "type.googleapis.com/envoy.config."


class ResourceType(StrEnum):
    """Type URLs, in the order in which Envoy must learn them (make before break)."""

    CLUSTER = f"{_TYPE}cluster.v3.Cluster"
    ENDPOINTS = f"{_TYPE}endpoint.v3.ClusterLoadAssignment"
    LISTENER = f"{_TYPE}listener.v3.Listener"
    ROUTES = f"{_TYPE}route.v3.RouteConfiguration"


Resources = Mapping[str, bytes]


@dataclass(frozen=True)
class Snapshot:
    """Serialised resources by type and name."""

    resources: Mapping[ResourceType, Resources] = field(default_factory=dict)

    @cached_property
    def versions(self) -> Mapping[ResourceType, str]:
        """Per type: the hash of its names and bytes."""
        return MappingProxyType({kind: _hash(self.of(kind)) for kind in ResourceType})

    @cached_property
    def version(self) -> str:
        whole = hashlib.sha256()
        for kind in ResourceType:
            whole.update(self.versions[kind].encode())
        return whole.hexdigest()[:16]

    def of(self, kind: ResourceType) -> Resources:
        return self.resources.get(kind, {})

    def replaced(self, kind: ResourceType, resources: Resources) -> Self:
        return type(self)({**self.resources, kind: resources})

    def steps_to(self, new: "Snapshot") -> list["Snapshot"]:
        """Configurations between, each safe to serve: add, then switch.

        After the last one everything of `new` is in force, beside what only `self`
        has: a request that was routed a moment ago still looks for its cluster.
        """
        added = self
        for kind in (ResourceType.CLUSTER, ResourceType.ENDPOINTS):
            added = added.replaced(kind, {**self.of(kind), **new.of(kind)})
        listening = added.replaced(ResourceType.LISTENER, new.of(ResourceType.LISTENER))
        routed = listening.replaced(ResourceType.ROUTES, new.of(ResourceType.ROUTES))
        return [added, listening, new if routed.version == new.version else routed]


def _hash(resources: Resources) -> str:
    content = hashlib.sha256()
    for name in sorted(resources):
        content.update(f"{len(name)}:{name}:{len(resources[name])}:".encode())
        content.update(resources[name])
    return content.hexdigest()[:16]


Addresses = Mapping[str, tuple[Instance, ...]]


def build(
    config: GatewayConfig,
    deployment: Deployment,
    variables: Mapping[str, str],
    registered: Addresses = MappingProxyType({}),
) -> Snapshot:
    """The snapshot of a document, and of the instances that registered themselves.

    Raises:
        UnknownVariable: a placeholder without value or default.
        ValueError: a variable's value is no address.
    """
    services = {
        name: resolve(service, variables) for name, service in config.services.items()
    }
    return Snapshot(
        {
            ResourceType.CLUSTER: _clusters(config, deployment, services),
            ResourceType.ENDPOINTS: _endpoints(deployment, services, registered),
            ResourceType.LISTENER: {
                listeners.LISTENER_NAME: listeners.listener(config, deployment)
            },
            ResourceType.ROUTES: {
                routes.ROUTES_NAME: routes.route_configuration(config, deployment.calls)
            },
        }
    )


def with_registered(
    snapshot: Snapshot,
    config: GatewayConfig,
    variables: Mapping[str, str],
    registered: Addresses,
) -> Snapshot:
    """The same with other instances: nothing else of it is built again."""
    content = dict(snapshot.of(ResourceType.ENDPOINTS))
    for name, service in config.services.items():
        if name in content:
            found = (*resolve(service, variables), *registered.get(name, ()))
            content[name] = endpoints.assignment_bytes(name, _once(found))
    return snapshot.replaced(ResourceType.ENDPOINTS, content)


def _once(instances: tuple[Instance, ...]) -> tuple[Instance, ...]:
    return tuple(dict.fromkeys(instances))


def resolve(service: Service, variables: Mapping[str, str]) -> tuple[Instance, ...]:
    """Its addresses, with variables replaced."""
    values = dict(variables)
    return tuple(instance(substitute(text, values)) for text in service.instances)


def _clusters(
    config: GatewayConfig,
    deployment: Deployment,
    services: Addresses,
) -> dict[str, bytes]:
    at_work = deployment.sidecars_at_work
    sidecars = {
        filters.AUTHZ: (deployment.authz, at_work),
        sessions.CLUSTER: (deployment.authz, None),
        filters.RATELIMIT: (deployment.ratelimit, at_work),
        access_log.USAGE_SINK: (deployment.usage_sink, None),
    }
    return {
        **{
            name: clusters.service_cluster(name, config.services[name], instances)
            for name, instances in services.items()
        },
        **{
            name: clusters.sidecar_cluster(name, addresses, asked)
            for name, (addresses, asked) in sidecars.items()
        },
        SERVICE_CONTROL: clusters.control_cluster(SERVICE_CONTROL, deployment.control),
    }


def _endpoints(
    deployment: Deployment, services: Addresses, registered: Addresses
) -> dict[str, bytes]:
    everything = {
        **services,
        SERVICE_CONTROL: (clusters.instance_of(deployment.control),),
    }
    return {
        name: endpoints.assignment_bytes(
            name, _once((*instances, *registered.get(name, ())))
        )
        for name, instances in everything.items()
        if clusters.is_eds(instances)
    }
