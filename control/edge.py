"""The `edge` part of the document: what any request must be, whatever its route."""

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from control.values import Duration, Method, Part, seconds

#: Every request walks this list; with 1,000 its cost is still lost in the noise of
#: Envoy's own, and a change of it takes 0.4 s.
MAX_NETWORKS = 1000

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network(text: str) -> Network:
    """`"10.0.0.0/8"`, `"2001:db8::/32"`, or one address; IPv4-mapped ones are IPv4.

    Raises:
        ValueError: neither; the message says what to give.
    """
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("give a network, such as 203.0.113.0/24 or 2001:db8::/32")  # noqa: B904 - the parser's own words say less
    if "/" in text and str(found.network_address) != _address_of(text):
        raise ValueError(
            f"its address has bits behind the prefix; did you mean {found}?"
        )
    if isinstance(found, ipaddress.IPv6Network):
        mapped = found.network_address.ipv4_mapped
        if mapped is not None and found.prefixlen >= _MAPPED_BITS:
            return ipaddress.IPv4Network((mapped, found.prefixlen - _MAPPED_BITS))
    return found


#: An IPv4 address is the last 32 bits of its IPv6 form.
_MAPPED_BITS = 96


def _address_of(text: str) -> str:
    return str(ipaddress.ip_address(text.partition("/")[0]))


def _check_network(text: str) -> str:
    return str(network(text))


NetworkText = Annotated[str, AfterValidator(_check_network)]


#: Words that name a secret, wherever they stand in a parameter's name,
_SECRET_PARTS = (
    *("apikey", "auth", "cookie", "credential", "jwt", "passw", "secret", "session"),
    *("signature", "token"),
)
#: and those that do as a word of it: `key` and `api_key`, not `keyword`.
_SECRET_WORDS = frozenset({"code", "key", "nonce", "otp", "pass", "pin", "pwd", "sig"})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def _check_query_name(name: str) -> str:
    words = {word.lower() for word in _WORD.findall(name)}
    if words & _SECRET_WORDS or any(part in name.lower() for part in _SECRET_PARTS):
        raise ValueError("it may hold a secret, and what is in the ledger stays there")
    return name


QueryName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_.\-]{1,64}$"),
    AfterValidator(_check_query_name),
]


class Edge(Part):
    """Whom the gateway lets in, whom it believes, and what form requests have."""

    blocked_networks: tuple[NetworkText, ...] = Field(
        default=(), max_length=MAX_NETWORKS
    )
    #: Whoever may read `/metrics`.
    metrics_networks: tuple[NetworkText, ...] = Field(
        default=("127.0.0.0/8", "::1/128"), max_length=MAX_NETWORKS
    )
    #: Proxies of ours in front, each of which appends to `x-forwarded-for`.
    trusted_hops: int = Field(default=0, ge=0, le=10)
    tls_in_front: bool = False
    methods: tuple[Method, ...] = Field(
        default=("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"),
        min_length=1,
        max_length=20,
    )
    max_headers: int = Field(default=100, ge=10, le=1000)
    max_header_kb: int = Field(default=32, ge=4, le=96)
    headers_timeout: Duration = "10s"
    #: Kept in the ledger's `request.parameters`; nothing else of a query ever is.
    logged_query_parameters: tuple[QueryName, ...] = Field(default=(), max_length=16)

    @field_validator("blocked_networks")
    @classmethod
    def _leaves_somebody(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(text.endswith("/0") for text in value):
            raise ValueError("a network of /0 would block everybody; name parts of it")
        return value

    @field_validator("methods")
    @classmethod
    def _refuses_tunnels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        refused = {"CONNECT", "TRACE"} & set(value)
        if refused:
            raise ValueError(f"{' and '.join(sorted(refused))} can't be allowed")
        return value

    @field_validator("headers_timeout")
    @classmethod
    def _ends(cls, value: str) -> str:
        if seconds(value) <= 0:
            raise ValueError("give more than 0: a slow client would hold a place")
        return value
