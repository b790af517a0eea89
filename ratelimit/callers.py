"""Who is counted: names for callers that no other caller can have."""

import hashlib
import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

MAX_SUBJECT_CHARACTERS = 64
_IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is counted: a user, or (without `user`) a client address."""

    role: str
    user: str
    address: str


def subject(caller: Caller) -> str:
    """A name for the caller, different for different callers, of bounded length."""
    if not caller.user:
        return f"a:{fold_address(caller.address)}"
    name = quote(caller.user, safe="")
    if len(name) > MAX_SUBJECT_CHARACTERS:
        # "#" is escaped above, so no other user can have such a name.
        name = "#" + hashlib.sha256(caller.user.encode()).hexdigest()
    return f"u:{name}"


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
