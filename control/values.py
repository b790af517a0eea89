"""Small values of the configuration document: names, durations, addresses."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

#: Names of Envoy clusters and log values that are not the user's to give.
RESERVED_SERVICES = frozenset(
    {"control", "gateway", "authz", "ratelimit", "usage_sink", "ads"}
)
SERVICE_CONTROL = "control"
SERVICE_GATEWAY = "gateway"
#: What the gateway answers itself, whatever a document says.
HEALTH_PATH = "/health"

#: Longest request or stream that a duration may allow: one week.
MAX_DURATION_S = 604_800.0
_TICK_S = 0.001

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", re.ASCII)
_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_METHOD = re.compile(r"[A-Z]{3,20}", re.ASCII)
_PATH = re.compile(r"/[!-~]*", re.ASCII)
#: What Envoy leaves as it is, and escapes that it does not undo.
_AS_ROUTED = re.compile(r"(?:[A-Za-z0-9!$&'()*+,\-.:;=@\[\]_~/]|%[0-9A-Fa-f]{2})+")
#: Escaped letters, digits, `-._~`, `%`, controls, slashes; `//`; segments of dots.
_NOT_AS_ROUTED = re.compile(
    r"%(?:[01].|2[5def]|3[0-9]|[46][1-9a-f]|[57][0-9a]|5[cf]|7[ef])|//|/\.\.?(?:/|$)",
    re.IGNORECASE,
)
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_HOSTNAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_-]{1,63})*\.?",
    re.ASCII,
)
_PLACEHOLDER = re.compile(r"\$\{(HUBGATE_UPSTREAM_[A-Z0-9_]+)(?::-([^${}]*))?\}")
_MAX_PORT = 65535


class Part(BaseModel):
    """A part of the document: frozen, and nothing but its own fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class UnknownVariable(ValueError):
    """A `${HUBGATE_UPSTREAM_…}` without default is not set."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One address of a service; `is_ip` decides between EDS and DNS."""

    host: str
    port: int
    is_ip: bool


def seconds(duration: str) -> float:
    """`"250ms"` -> 0.25.

    Raises:
        ValueError: not such a duration.
    """
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError("give a number with ms, s, m or h, such as 15s or 250ms")
    length = float(match[1]) * _UNITS[match[2]]
    if length > MAX_DURATION_S:
        raise ValueError("give at most one week (168h)")
    if 0 < length < _TICK_S:
        # Envoy would cut it to 0, which is for ever.
        raise ValueError("give 0s, or at least 1ms")
    return length


def instance(text: str) -> Instance:
    """`127.0.0.1:3002`, `[::1]:3002` or `core.internal:3002`.

    Raises:
        ValueError: neither; the message shows the forms.
    """
    host, separator, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not separator or not _is_port(port):
        raise ValueError("give host:port, such as 127.0.0.1:3002 or core.internal:80")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        if bracketed or not is_hostname(bare):
            raise ValueError(
                "give an IPv4 address, an IPv6 address in brackets, or a DNS name"
            ) from None
        return Instance(bare, int(port), is_ip=False)
    if bracketed != (address.version == 6):  # noqa: PLR2004 - IPv6
        raise ValueError("write an IPv6 address in brackets, such as [::1]:3002")
    return Instance(str(address), int(port), is_ip=True)


def substitute(text: str, variables: dict[str, str]) -> str:
    """Replace `${HUBGATE_UPSTREAM_X:-default}`; an empty variable counts as unset.

    Raises:
        UnknownVariable: it is not set and has no default.
    """

    def value(match: re.Match[str]) -> str:
        given = variables.get(match[1], "") or match[2]
        if given is None:
            raise UnknownVariable(
                f"{match[1]} is not set; set it or write ${{{match[1]}:-default}}"
            )
        return str(given)

    return _PLACEHOLDER.sub(value, text)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) <= _MAX_PORT


def is_hostname(text: str) -> bool:
    # All digits and dots would be an address that somebody mistyped.
    return bool(_HOSTNAME.fullmatch(text)) and not re.fullmatch(r"[\d.]+", text)


def check_name(text: str) -> str:
    """Raises ValueError: no name."""
    if not _NAME.fullmatch(text):
        raise ValueError(
            "give 1 to 64 lower-case letters, digits, '.', '_' or '-', "
            "with a letter or digit at both ends"
        )
    return text


def _check_service_name(text: str) -> str:
    if text in RESERVED_SERVICES:
        raise ValueError("this name is reserved; choose another")
    return check_name(text)


def _check_role(text: str) -> str:
    if not _ROLE.fullmatch(text):
        raise ValueError("give a role name of letters, digits, '.', '_' or '-'")
    return text


def _check_method(text: str) -> str:
    if not _METHOD.fullmatch(text):
        raise ValueError("give an HTTP method in capitals, such as GET")
    return text


def _check_path(text: str) -> str:
    if not _PATH.fullmatch(text) or any(mark in text for mark in "?#"):
        raise ValueError("give a path that starts with / and has no space, ? or #")
    return text


def _check_route_path(text: str) -> str:
    if not _AS_ROUTED.fullmatch(text) or _NOT_AS_ROUTED.search(text):
        raise ValueError(
            "no request has such a path when routes are tried: leave out //, . and ..,"
            ' \\, any of "<>^`{|} and escapes of letters, digits, -._~, / and %;'
            " for a pattern give regex"
        )
    return text


def _check_text(text: str) -> str:
    if not text.isprintable():
        raise ValueError("give visible characters")
    return text


def _check_duration(text: str) -> str:
    seconds(text)
    return text


def _check_instance(text: str) -> str:
    # A placeholder without default can only be checked when it is substituted.
    bare = _PLACEHOLDER.sub(lambda match: match[2] or "placeholder:1", text)
    if "$" in bare:
        raise ValueError("only ${HUBGATE_UPSTREAM_…} variables may be named here")
    instance(bare)
    return text


def _check_address(text: str) -> str:
    if not instance(text).is_ip:
        raise ValueError("give an IP address and a port, such as 10.0.0.7:3002")
    return text


def _to_text(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f'give a number with its unit, such as "{value}s"')  # noqa: TRY004 - pydantic reports ValueError
    return value


Name = Annotated[str, AfterValidator(check_name)]
ServiceName = Annotated[str, AfterValidator(_check_service_name)]
Role = Annotated[str, AfterValidator(_check_role)]
Method = Annotated[str, AfterValidator(_check_method)]
Path = Annotated[str, AfterValidator(_check_path)]
#: Of a route: as Envoy has a request's after it has normalised it.
RoutePath = Annotated[Path, AfterValidator(_check_route_path)]
#: Free text that PostgreSQL and Envoy take.
Text = Annotated[str, AfterValidator(_check_text)]
Duration = Annotated[str, BeforeValidator(_to_text), AfterValidator(_check_duration)]
IpAddress = Annotated[str, AfterValidator(_check_address)]
InstanceText = Annotated[str, AfterValidator(_check_instance)]
