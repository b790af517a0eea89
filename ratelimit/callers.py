"""Who is counted: names for callers that no other caller can have."""

import ipaddress
from functools import lru_cache

from runtime.contracts.redis_keys import rate_limit_user
from runtime.values import value

_IPV6_PREFIX = 64


@value
class Caller:
    """Who is counted: a user, or (without `user`) a client address."""

    role: str
    user: str
    address: str


def subject(caller: Caller) -> str:
    """A name for the caller, different for different callers, of bounded length."""
    if not caller.user:
        return f"a:{fold_address(caller.address)}"
    return rate_limit_user(caller.user)


@lru_cache(maxsize=4096)
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
