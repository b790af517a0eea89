"""Where alerts may be sent to. Pure.

To public addresses, over https. To other addresses (private, loopback, link-local, …)
only inside the networks that the operator lists (HUBGATE_WEBHOOK_NETWORKS), there also
over http. What a name resolves to is checked each time, and the address that was
checked is the one that is connected to.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from control.values import is_hostname

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORTS = {"http": 80, "https": 443}
#: All that is given out as global unicast: what is not of it is local, or carries an
#: IPv4 address of which nobody knows where it ends. (Python calls much of that global.)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


class Forbidden(ValueError):
    """The policy does not let an alert go there."""


@dataclass(frozen=True, slots=True)
class Target:
    """A webhook's parts; `host` as in its certificate."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def target(url: str) -> Target:
    """Raises ValueError: no URL that a webhook may have."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("give an http or https URL") from None
    if parts.scheme not in _PORTS or not host or not url.isascii():
        raise ValueError("give an http or https URL")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("give a URL without a user name and without #")
    if any(one <= " " or one == "\x7f" for one in url):
        raise ValueError("give a URL without white space")
    path = _path(parts)
    return Target(parts.scheme, host, port or _PORTS[parts.scheme], path)


def check_url(url: str) -> str:
    """Raises ValueError: no URL that a webhook may have."""
    target(url)
    return url


def check(scheme: str, text: str, networks: Sequence[Network]) -> Address:
    """The address, if an alert may go there.

    Raises:
        Forbidden: neither public (over https) nor in one of `networks`.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address.version == one.version and address in one for one in networks):
        return address
    if not _is_public(address):
        raise Forbidden(
            f"{address} is no public address; list its network in "
            "HUBGATE_WEBHOOK_NETWORKS"
        )
    if scheme != "https":
        raise Forbidden("give https for an address outside HUBGATE_WEBHOOK_NETWORKS")
    return address


def check_target(to: Target, networks: Sequence[Network]) -> None:
    """What can be said of it before its name is resolved; raises Forbidden."""
    try:
        address = str(ipaddress.ip_address(to.host))
    except ValueError:
        if not is_hostname(to.host):
            raise Forbidden("give a URL with a host's name or address") from None
        return
    check(to.scheme, address, networks)


def _is_public(address: Address) -> bool:
    if not address.is_global or address.is_multicast:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return True
    # Addresses that carry an IPv4 address: who routes them may end anywhere.
    carries = address.sixtofour is not None or address.teredo is not None
    return address in _GLOBAL_UNICAST and not carries


def _path(parts: SplitResult) -> str:
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path
