"""Who may not come in, by the client's address as the trusted hops tell it (RBAC).

The rules are part of the routes, not of the listener: routes change for the next
request of an open connection, a listener only for the next connection.
"""

import ipaddress
from collections.abc import Iterable

from envoy_data_plane.envoy.config.core.v3 import CidrRange
from envoy_data_plane.envoy.config.rbac.v3 import (
    Permission,
    Policy,
    Principal,
    PrincipalSet,
    Rbac,
    RbacAction,
)
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as RbacFilter
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import RbacPerRoute
from envoy_data_plane.google.protobuf import Any

from control.edge import Edge, Network, network
from control.xds import wire

FILTER = "envoy.filters.http.rbac"
#: Part of the response code details, by which a denial is known from others.
POLICY_BLOCKED = "blocked"
_POLICY_METRICS = "metrics"


def rbac() -> Any:
    """The filter, without rules: the routes bring them."""
    return wire.pack(RbacFilter())


def everywhere(edge: Edge) -> dict[str, Any]:
    """For every route that says nothing else."""
    return _denied(_blocked(edge))


def metrics_only(edge: Edge) -> dict[str, Any]:
    """For `/metrics`: a route's rules replace those that hold everywhere."""
    outside = Principal(not_id=_any_of(edge.metrics_networks))
    return _denied({**_blocked(edge), _POLICY_METRICS: _policy(outside)})


def _blocked(edge: Edge) -> dict[str, Policy]:
    if not edge.blocked_networks:
        return {}
    return {POLICY_BLOCKED: _policy(_any_of(edge.blocked_networks))}


def _denied(policies: dict[str, Policy]) -> dict[str, Any]:
    if not policies:
        return {}
    rules = Rbac(action=RbacAction.DENY, policies=policies)
    return {FILTER: wire.pack(RbacPerRoute(rbac=RbacFilter(rules=rules)))}


def _policy(principal: Principal) -> Policy:
    return Policy(permissions=[Permission(any=True)], principals=[principal])


def _any_of(networks: Iterable[str]) -> Principal:
    known = [network(one) for one in networks]
    if not known:
        # Envoy wants a member in every set: nobody is in this one.
        return Principal(not_id=Principal(any=True))
    four = [one for one in known if isinstance(one, ipaddress.IPv4Network)]
    six = [one for one in known if isinstance(one, ipaddress.IPv6Network)]
    ranges = [
        *map(_range, ipaddress.collapse_addresses(four)),
        *map(_range, ipaddress.collapse_addresses(six)),
    ]
    return Principal(
        or_ids=PrincipalSet(ids=[Principal(remote_ip=one) for one in ranges])
    )


def _range(one: Network) -> CidrRange:
    return CidrRange(address_prefix=str(one.network_address), prefix_len=one.prefixlen)
