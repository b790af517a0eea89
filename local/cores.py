"""Which cores the processes of a decision keep to.

Every request wakes Envoy and then a sidecar. Left alone, the kernel puts each where
there is room, which is where its code is in no cache.
"""

import contextlib
import os
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

_PROCESSES: Final = Path("/proc")


def usable() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


def shares(workers: int) -> tuple[frozenset[int], frozenset[int]]:
    """As many as Envoy has workers, and those for what it asks.

    Both are all of them when there are not more than workers.
    """
    cores = usable()
    if workers >= len(cores):
        return frozenset(cores), frozenset(cores)
    return frozenset(cores[:workers]), frozenset(cores[workers:])


def keep_to(pid: int, cores: AbstractSet[int]) -> None:
    """Every thread that the process has now, and those that they start."""
    if not cores:
        return
    with contextlib.suppress(FileNotFoundError):
        for thread in list((_PROCESSES / str(pid) / "task").iterdir()):
            # It may have ended since.
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), cores)
