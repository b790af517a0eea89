"""Which stacks run on this machine, and what they told about themselves.

A stack lives as long as its supervisor holds the lock of its data directory: the
kernel lets go of it however the supervisor ends, so there are no stale answers.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.errors import DataDirBusyError, LocalError
from local.files import write_private

_LOCK = "lock"
_STATE = "stack.json"
#: Who only asks whether a stack lives holds the lock for an instant.
_LOCK_ATTEMPTS = 5
_LOCK_RETRY_S = 0.05
#: sockaddr_un holds 108 bytes with the final zero; the longest name is added to it.
_LONGEST_RUN_DIR = 107 - len("/ratelimit-0-ops.sock")


@dataclass(frozen=True, slots=True)
class DataDir:
    """The files of one stack."""

    path: Path

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def archive(self) -> Path:
        """For old days of the ledger, unless another folder is given."""
        return self.path / "archive"

    @property
    def admin_token(self) -> Path:
        return self.path / "admin.token"

    @property
    def ingest_token(self) -> Path:
        """What a service shows that reports usage."""
        return self.path / "ingest.token"

    @property
    def run(self) -> Path:
        """For sockets, whose paths are limited by the kernel."""
        run = self.path / "run"
        if len(os.fsencode(run)) <= _LONGEST_RUN_DIR:
            return run
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        return _private_temp() / digest

    def create(self) -> None:
        """Make the folders.

        Raises:
            LocalError: one cannot be made.
        """
        # PostgreSQL has a user of its own when we are root, who must pass through.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        try:
            self.path.mkdir(mode=mode, parents=True, exist_ok=True)
            for folder in (self.logs, self.run, self.archive):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise LocalError(
                f"cannot use {self.path} for data: {error.strerror}; choose another"
                " with --data-dir"
            ) from error


class Lock:
    """Held by the supervisor for as long as it lives."""

    def __init__(self, data: DataDir, stack: str) -> None:
        self._data = data
        self._stack = stack
        self._descriptor = -1

    def take(self) -> str | None:
        """Lock the data directory; gives the marker of the stack that had it before.

        Raises:
            DataDirBusyError: a live stack has it.
        """
        path = self._data.path / _LOCK
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        previous = _parse(os.pread(descriptor, 4096, 0))
        if not _lock(descriptor):
            os.close(descriptor)
            raise DataDirBusyError(
                f"{self._data.path} is in use by the stack with pid"
                f" {previous.get('pid', '?')}: stop that one, or choose another"
                " --data-dir"
            )
        self._descriptor = descriptor
        entry = json.dumps({"pid": os.getpid(), "stack": self._stack})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, entry.encode(), 0)
        with contextlib.suppress(OSError):
            (registry() / self._stack).write_text(str(self._data.path))
        return previous.get("stack")

    def release(self) -> None:
        """Let go, and forget what a running stack told."""
        if self._descriptor < 0:
            return
        with contextlib.suppress(OSError):
            (registry() / self._stack).unlink()
        (self._data.path / _STATE).unlink(missing_ok=True)
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def write_state(data: DataDir, state: Mapping[str, object]) -> None:
    """Publish what the ready line says; private, since it holds tokens."""
    write_private(data.path / _STATE, json.dumps(state, indent=2).encode() + b"\n")


def live_state(path: Path) -> dict[str, Any] | None:
    """What the stack with this data directory told; None when it does not run."""
    if not _is_locked(path / _LOCK):
        return None
    with contextlib.suppress(OSError):
        return _parse((path / _STATE).read_bytes()) or None
    return None


def live_stacks() -> list[dict[str, Any]]:
    """Every running stack of this user."""
    found = []
    for entry in sorted(registry().iterdir()):
        with contextlib.suppress(OSError):
            path = Path(entry.read_text())
            if not _is_locked(path / _LOCK):
                entry.unlink()
            elif (state := live_state(path)) is not None:
                found.append(state)
    return found


def find_stack(data_dir: Path) -> dict[str, Any] | None:
    """The stack of this data directory, else the only one that runs.

    Raises:
        LocalError: several run, and none of them has this data directory.
    """
    here = live_state(data_dir)
    if here is not None:
        return here
    stacks = live_stacks()
    if len(stacks) > 1:
        names = ", ".join(f"{s['control']} ({s['data_dir']})" for s in stacks)
        raise LocalError(
            f"several stacks run: {names}; say which with --control and --admin-token,"
            " or call from the folder that holds its .hubgate"
        )
    return stacks[0] if stacks else None


def registry() -> Path:
    """A private folder with one entry for each stack of this user."""
    folder = _private_temp() / "stacks"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _private_temp() -> Path:
    folder = Path(tempfile.gettempdir()) / f"hubgate-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise LocalError(f"{folder} is not private to this user: remove it")
    return folder


def _lock(descriptor: int) -> bool:
    for _ in range(_LOCK_ATTEMPTS):
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_LOCK_RETRY_S)
    return False


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _parse(raw: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        value = json.loads(raw)
        if isinstance(value, dict):
            return value
    return {}
