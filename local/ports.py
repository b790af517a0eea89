"""Free ports for a stack, and the answer to "who has mine?"."""

import errno
import random
import socket
from collections.abc import Iterable
from pathlib import Path

from local.errors import LocalError

_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000
_DEFAULT_EPHEMERAL_START = 32_768


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
