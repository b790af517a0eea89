"""Limits by role and by route: a document -> immutable rules -> what to charge."""

import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from ratelimit.store import Charge
from runtime.contracts import ROLE_GUEST, rate_limit_key

MAX_SUBJECT_CHARACTERS = 64
_IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class Limit:
    """`requests` in any `per_s` seconds."""

    requests: int
    per_s: int


_PER_MINUTE = 60
_DEFAULT_ROLES: Mapping[str, Limit | None] = MappingProxyType(
    {
        "admin": None,
        "manager": Limit(120, _PER_MINUTE),
        "user": Limit(60, _PER_MINUTE),
        ROLE_GUEST: Limit(10, _PER_MINUTE),
    }
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is counted: a user, or (without `user`) a client address."""

    role: str
    user: str
    address: str


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits by role (None = unlimited) and by route; these are the defaults."""

    roles: Mapping[str, Limit | None] = field(default_factory=lambda: _DEFAULT_ROLES)
    routes: Mapping[str, Limit] = field(default_factory=dict)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Rules":
        """Rules as `control` publishes them.

        Raises:
            ValueError: naming the first member that is not as agreed.
        """
        roles = {
            name: None if limit is None else _limit(f"roles.{name}", limit)
            for name, limit in _object(document, "roles").items()
        }
        if ROLE_GUEST not in roles:
            raise ValueError("roles.guest is missing: it limits callers without a role")
        routes = {
            name: _limit(f"routes.{name}", limit)
            for name, limit in _object(document, "routes").items()
        }
        return cls(MappingProxyType(roles), MappingProxyType(routes))

    def charges(self, caller: Caller, route: str, hits: int) -> list[Charge]:
        """What this request costs on which counters; empty = unlimited.

        A route's own limit stands in place of the role's. The counter belongs to the
        caller, not to the role: a new role or token keeps the count.
        """
        role_limit = self.roles.get(caller.role, self.roles[ROLE_GUEST])
        if role_limit is None:
            return []
        limit = self.routes.get(route)
        scope = f"route:{quote(route, safe='')}"
        if limit is None:
            limit, scope = role_limit, "role"
        key = rate_limit_key(subject(caller), f"{scope}:{limit.per_s}")
        return [Charge(key, limit.requests, limit.per_s * 1000, hits)]


def subject(caller: Caller) -> str:
    """A name for the caller, different for different callers, of bounded length."""
    if not caller.user:
        return f"a:{fold_address(caller.address)}"
    name = quote(caller.user, safe="")
    if len(name) > MAX_SUBJECT_CHARACTERS:
        # "#" is escaped above, so no other user can have such a name.
        name = "#" + hashlib.sha256(caller.user.encode()).hexdigest()
    return f"u:{name}"


def fold_address(text: str) -> str:
    """One name for addresses that one client can choose between.

    IPv6 counts by /64 (RFC 6177: the least a site gets), IPv4-mapped IPv6 as IPv4.
    Text that is no address shares one name: it can't buy a fresh limit.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            network = ipaddress.ip_network((int(address), _IPV6_PREFIX), strict=False)
            return str(network)
        address = address.ipv4_mapped
    return str(address)


def _object(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be an object")  # noqa: TRY004 - one error for bad documents
    return value


def _limit(name: str, value: object) -> Limit:
    if isinstance(value, Mapping):
        requests, per_s = value.get("requests"), value.get("per_s")
        if _is_positive(requests) and _is_positive(per_s):
            return Limit(int(str(requests)), int(str(per_s)))
    raise ValueError(f"{name} must have whole numbers requests and per_s above 0")


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
