"""Ends a stack whose supervisor is gone, however it went.

The supervisor holds the write end of this process's stdin. At end of file every
process that carries the stack's marker is ended. Children inherit the marker with
their environment, so there is nothing to register and nothing to race with. Only
few, cheap imports: this process lives as long as the stack.
"""

import contextlib
import os
import signal
import sys
import time

MARKER = "HUBGATE_STACK"

_STEP_S = 0.1
#: Steps between the first request to stop and the next, firmer one.
_STEPS_TO_INTERRUPT = 20
_STEPS_TO_KILL = 50
_STEPS_TO_GIVE_UP = 80
#: A process may be between fork and exec, when it does not carry the marker yet.
_EMPTY_SCANS_TO_END = 3


def title(stack: str) -> str:
    """The marker in command lines, which every user may read.

    PostgreSQL overwrites its environment, and one user's may be closed to another.
    """
    return f"hubgate-{stack}"


def members(stack: str) -> list[int]:
    """The processes that belong to this stack, without the caller."""
    here = os.getpid()
    names = os.listdir("/proc")  # noqa: PTH208 - a cheap import
    pids = [int(name) for name in names if name.isdigit()]
    return [pid for pid in pids if pid != here and _belongs(pid, stack)]


def sweep(stack: str) -> bool:
    """End every member: TERM, then INT (PostgreSQL's fast way), then KILL.

    False when something is still alive after that.
    """
    empty = 0
    asked: dict[int, int] = {}
    for step in range(_STEPS_TO_GIVE_UP):
        found = members(stack)
        empty = 0 if found else empty + 1
        if empty == _EMPTY_SCANS_TO_END:
            return True
        wanted = _signal_at(step)
        for pid in found:
            if asked.get(pid) != wanted:
                asked[pid] = wanted
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, wanted)
        time.sleep(_STEP_S)
    return False


def _signal_at(step: int) -> signal.Signals:
    if step >= _STEPS_TO_KILL:
        return signal.SIGKILL
    return signal.SIGINT if step >= _STEPS_TO_INTERRUPT else signal.SIGTERM


def _belongs(pid: int, stack: str) -> bool:
    entry = f"{MARKER}={stack}".encode()
    return entry in _read(pid, "environ").split(b"\0") or title(
        stack
    ).encode() in _read(pid, "cmdline")


def _read(pid: int, what: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{what}", "rb") as file:  # noqa: PTH123 - a cheap import
            return file.read()
    except OSError:  # gone, or another user's
        return b""


def main() -> None:
    """`python -m local.watchdog STACK`, stdin: a pipe from the supervisor."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    sys.exit(0 if sweep(sys.argv[1]) else 1)


if __name__ == "__main__":
    main()
