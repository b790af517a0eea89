"""Says in words what this machine lacks for running hubgate."""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import accounts, binaries, offline, ports, state
from local.client import ControlClient
from local.errors import LocalError
from local.settings import PortChoice

_OLDEST_PYTHON = (3, 11)
_MACHINES = {"x86_64", "aarch64"}
_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    ok: bool
    what: str

    def __str__(self) -> str:
        return f"{'ok     ' if self.ok else 'MISSING'}  {self.what}"


def examine(data_dir: Path, config: Path) -> list[Finding]:
    """Look at everything; nothing is changed."""
    stack = state.live_state(data_dir)
    checks: list[Callable[[], str]] = [
        _python,
        _machine,
        lambda: _engine("Envoy", binaries.envoy),
        lambda: _engine("Valkey", binaries.valkey),
        lambda: _engine("PostgreSQL", lambda: binaries.postgres() / "postgres"),
        _account,
        lambda: _writable(data_dir),
        lambda: _config(config),
        lambda: _ports(stack),
        lambda: _stack(stack, data_dir),
    ]
    return list(_results(checks))


def _results(checks: list[Callable[[], str]]) -> Iterator[Finding]:
    for check in checks:
        try:
            yield Finding(ok=True, what=check())
        except LocalError as error:
            yield Finding(ok=False, what=str(error))


def _python() -> str:
    if sys.version_info < _OLDEST_PYTHON:
        raise LocalError(
            f"Python {platform.python_version()} is too old: install 3.11 or newer"
        )
    return f"Python {platform.python_version()}"


def _machine() -> str:
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in _MACHINES:
        raise LocalError(
            f"{system} on {machine}: the embedded Envoy exists for Linux on x86_64 and"
            " aarch64 only; run hubgate in a Linux container or virtual machine"
        )
    return f"{system} on {machine}"


def _engine(name: str, find: Callable[[], Path]) -> str:
    path = find()
    try:
        result = subprocess.run(  # noqa: S603 - a binary of ours
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LocalError(
            f"{name} cannot run ({error}): reinstall hubgate[local]"
        ) from None
    return f"{name}: {result.stdout.strip().splitlines()[-1]}"


def _account() -> str:
    if os.geteuid() != 0:
        accounts.check_name()
        return "PostgreSQL runs as you"
    name = accounts.existing_name()
    if name is None:
        return f"PostgreSQL will run as the system user {accounts.ACCOUNT} (to be made)"
    return f"PostgreSQL runs as the system user {name}"


def _writable(data_dir: Path) -> str:
    nearest = next(p for p in (data_dir, *data_dir.parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return f"data directory {data_dir} is writable"
    except OSError as error:
        raise LocalError(
            f"{nearest} is not writable ({error.strerror}): choose another --data-dir"
        ) from None


def _config(config: Path) -> str:
    found = offline.problems(config)
    if found:
        raise LocalError("; ".join(f"{config}: {problem}" for problem in found))
    return f"configuration {config} is valid"


def _ports(stack: dict[str, Any] | None) -> str:
    if stack is not None:
        return "ports: in use by the stack that runs here"
    ports.choose(PortChoice(), host="127.0.0.1", demo=True)
    return "the default ports are free"


def _stack(stack: dict[str, Any] | None, data_dir: Path) -> str:
    if stack is None:
        others = ", ".join(str(other["data_dir"]) for other in state.live_stacks())
        return f"no stack runs in {data_dir}" + (
            f"; others: {others}" if others else ""
        )
    ControlClient(stack["control"], stack["admin_token"]).health()
    return f"a stack runs here: {stack['gateway']}, control at {stack['control']}"
