"""What each process of a stack gets of the machine: which cores, and before whom.

Every request wakes Envoy, a sidecar and Redis. Left alone, the kernel puts each where
there is room, which is where its code is in no cache, and lets it wait for whoever
writes the ledger.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROCESSES: Final = Path("/proc")
#: Runs when others leave room, and never starves: a tenth of a core that all want.
_BEHIND: Final = 10
_EVERY_S: Final = 2.0
#: Linux takes one change of a group's priority in so long from an ordinary user.
_GROUP_CHANGE_S: Final = 0.12


@dataclass(frozen=True, slots=True)
class Share:
    """`cores`: it keeps to these, none: to any. `is_behind`: others go first."""

    cores: frozenset[int] = frozenset()
    is_behind: bool = False


ANY: Final = Share()


@dataclass(frozen=True, slots=True)
class Shares:
    """Of Envoy; of the sidecars and Redis; of who writes the ledger."""

    envoy: Share = ANY
    deciders: Share = ANY
    ledger: Share = ANY


def usable() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


def divided(workers: int) -> Shares:
    """A core for each of Envoy's workers, the others for all that it asks.

    With no more cores than workers all use any.
    """
    cores = usable()
    if workers >= len(cores):
        return Shares(ledger=Share(is_behind=True))
    others = frozenset(cores[workers:])
    return Shares(
        envoy=Share(frozenset(cores[:workers])),
        deciders=Share(others),
        ledger=Share(others, is_behind=True),
    )


class Divider:
    """Gives processes their share, and again: PostgreSQL starts one a connection."""

    def __init__(self) -> None:
        self._given: set[tuple[int, Share]] = set()

    async def run(self, wanted: Callable[[], Mapping[int, Share]]) -> None:
        """`wanted` tells the share of each process; its descendants get the same."""
        while True:
            await self.give(wanted())
            await asyncio.sleep(_EVERY_S)

    async def give(self, wanted: Mapping[int, Share]) -> None:
        """One round."""
        known, self._given = self._given, set()
        for root, share in wanted.items():
            for pid in _tree(root):
                if (pid, share) in known or await _give(pid, share):
                    self._given.add((pid, share))


async def _give(pid: int, share: Share) -> bool:
    """False: it has ended, or is to be asked again."""
    try:
        for thread in _threads(pid):
            # It may have ended since.
            with contextlib.suppress(ProcessLookupError):
                if share.cores:
                    os.sched_setaffinity(thread, share.cores)
                if share.is_behind:
                    os.setpriority(os.PRIO_PROCESS, thread, _BEHIND)
        if share.is_behind:
            await _put_group_behind(pid)
    except PermissionError:
        return True  # another account's, as on a hardened machine: as it is
    except OSError:
        return False
    return True


async def _put_group_behind(pid: int) -> None:
    """Without it a priority counts inside a session only (sched(7), autogroup)."""
    group = _PROCESSES / str(pid) / "autogroup"
    if not group.exists():  # a kernel without
        return
    try:
        group.write_text(str(_BEHIND))
    except BlockingIOError:
        await asyncio.sleep(_GROUP_CHANGE_S)
        group.write_text(str(_BEHIND))


def _threads(pid: int) -> Iterator[int]:
    for thread in (_PROCESSES / str(pid) / "task").iterdir():
        yield int(thread.name)


def _tree(pid: int) -> Iterator[int]:
    """The process and its descendants, as far as they are still there."""
    yield pid
    with contextlib.suppress(OSError):
        for thread in _threads(pid):
            children = _PROCESSES / str(pid) / "task" / str(thread) / "children"
            for child in children.read_text().split():
                yield from _tree(int(child))
