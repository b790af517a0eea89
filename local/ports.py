"""Free ports for a stack, and the answer to "who has mine?"."""

import errno
import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from local.errors import LocalError
from local.settings import PortChoice

_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000
_DEFAULT_EPHEMERAL_START = 32_768

#: Field of `Ports` -> its default and the option that moves it; the rest is free.
_DEFAULTS = {
    "gateway": (3000, "--port"),
    "control": (8000, "--control-port"),
    "ads": (18000, "--ads-port"),
    "envoy_admin": (9901, "--admin-port"),
    "auth": (3001, "--upstream-port"),
    "core": (3002, "--upstream-port"),
    "mcp": (3003, "--upstream-port"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where everything listens; `auth`, `core`, `mcp` are the demo upstreams."""

    gateway: int
    control: int
    ads: int
    envoy_admin: int
    auth: int
    core: int
    mcp: int
    redis: int
    postgres: int


def choose(choice: PortChoice, *, host: str, demo: bool) -> Ports:
    """Ports as asked for, or the defaults, or free ones.

    Raises:
        LocalError: one is in use; names it and the option that moves it.
    """
    wanted = _wanted(choice)
    for name, port in wanted.items():
        used = demo or name not in {"auth", "core", "mcp"}
        where = host if name == "gateway" else "127.0.0.1"
        if used and not is_free(port, where):
            raise LocalError(
                f"port {port} ({name}) is in use: choose another with"
                f" {_DEFAULTS[name][1]}, or take free ones with --port 0"
            )
    missing = [name for name in Ports.__slots__ if name not in wanted]
    found = free_ports(len(missing), excluding=wanted.values())
    return Ports(**wanted, **dict(zip(missing, found, strict=True)))


def _wanted(choice: PortChoice) -> dict[str, int]:
    first = choice.upstream
    given = {
        "gateway": choice.gateway or None,
        "control": choice.control,
        "ads": choice.ads,
        "envoy_admin": choice.envoy_admin,
        "auth": first,
        "core": first and first + 1,
        "mcp": first and first + 2,
    }
    if choice.gateway:
        given = {name: port or _DEFAULTS[name][0] for name, port in given.items()}
    return {name: port for name, port in given.items() if port}


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise LocalError(f"cannot listen on {host}:{port}: {error}") from error
    return True


def free_ports(count: int, *, excluding: Iterable[int] = ()) -> list[int]:
    """Distinct ports that nothing uses now.

    They lie below the kernel's ephemeral range: a port of `bind(0)` may be taken by
    any outgoing connection before its server starts, and often is.
    """
    candidates = range(_LOWEST, _ephemeral_start())
    taken = set(excluding)
    found: list[int] = []
    for port in random.sample(candidates, len(candidates)):
        if len(found) == count:
            return found
        if port not in taken and is_free(port):
            found.append(port)
    raise LocalError("no free ports on 127.0.0.1: end what listens there")


def _ephemeral_start() -> int:
    try:
        start = int(_EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        start = _DEFAULT_EPHEMERAL_START
    # Some containers widen the range to all ports; then nothing is safe anyway.
    return start if start > _LOWEST + 1000 else 65_000
