"""What this machine is, and what its processes take, as `/proc` tells it."""

import os
import platform
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_KB_PER_GB: Final = 1024 * 1024
#: The state of such a socket in /proc/net/tcp.
_LISTEN: Final = "0A"
#: Fields of /proc/PID/stat, counted from the one after the name's bracket.

_PARENT, _USER, _SYSTEM = 1, 11, 12


@dataclass(frozen=True, slots=True)
class Memory:
    """Of some processes together, in KB; `pss` counts a shared page once."""

    rss: int
    pss: int


def pin(cores: int) -> list[int]:
    """Keep this process, and all that it starts, on so many cores; gives which."""
    chosen = sorted(os.sched_getaffinity(0))[:cores]
    os.sched_setaffinity(0, chosen)
    return chosen


def allow_open_files(count: int) -> None:
    """For this process and what it starts, as far as its own limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def describe(cores: Iterable[int]) -> str:
    model = _field(_PROC / "cpuinfo", "model name") or platform.processor()
    total = _field(_PROC / "meminfo", "MemTotal") or "0 kB"
    memory = int(total.split()[0]) / _KB_PER_GB
    used = ",".join(str(core) for core in cores)
    return (
        f"{model}, cores {used} of {os.cpu_count()}, {memory:.0f} GB,"
        f" Linux {platform.release()}, Python {platform.python_version()}"
    )


def tree(roots: Iterable[int]) -> set[int]:
    """The processes and all that descend from them."""
    children: dict[int, list[int]] = {}
    for folder in _PROC.glob("[0-9]*"):
        fields = _stat(int(folder.name))
        if fields:
            children.setdefault(int(fields[_PARENT]), []).append(int(folder.name))
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(children.get(pid, ()))
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of the living among them."""
    fields = (_stat(pid) for pid in pids)
    ticks = sum(int(found[_USER]) + int(found[_SYSTEM]) for found in fields if found)
    return ticks / _TICKS_PER_S


def memory(pids: Iterable[int]) -> Memory:
    rss = pss = 0
    for pid in pids:
        path = _PROC / str(pid) / "smaps_rollup"
        rss += int((_field(path, "Rss") or "0").split()[0])
        pss += int((_field(path, "Pss") or "0").split()[0])
    return Memory(rss, pss)


def listeners(port: int) -> int:
    """How many sockets listen on that port of IPv4."""
    lines = (_PROC / "net/tcp").read_text().splitlines()[1:]
    rows = (line.split() for line in lines)
    return sum(row[1].endswith(f":{port:04X}") and row[3] == _LISTEN for row in rows)


def _stat(pid: int) -> list[str]:
    """What follows the name; nothing when the process is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _field(path: Path, name: str) -> str | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
