"""Real processes get their share of the machine, and so does what they start."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from local.child import Spec
from local.console import Console, Style
from local.processes import Supervisor
from local.shares import Share, usable

pytestmark = pytest.mark.integration

_DEADLINE_S = 15.0
#: Starts a process in a session of its own for each line it reads, as PostgreSQL does
#: for each connection, and says which.
_STARTS_OTHERS = """
import pathlib, subprocess, sys
folder = pathlib.Path(sys.argv[1])
fifo = folder / "fifo"
with fifo.open() as lines:
    for line in lines:
        wait = [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"]
        child = subprocess.Popen(wait, start_new_session=True)
        (folder / line.strip()).write_text(str(child.pid))
"""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)


class Room:
    """A supervised process that starts others when told to."""

    def __init__(self, folder: Path, null: int) -> None:
        self.folder = folder
        self.pids: list[int] = []
        console = Console(Style.PLAIN, stdout=null, stderr=null)
        self.supervisor = Supervisor(
            stack="shares",
            environ={"PATH": os.defpath},
            console=console,
            logs=folder,
        )
        self.console = console

    async def start(self, share: Share) -> int:
        fifo = self.folder / "fifo"
        os.mkfifo(fifo)
        argv = (sys.executable, "-I", "-S", "-c", _STARTS_OTHERS, str(self.folder))

        async def ready() -> None:
            # Read and write, so that opening waits for nobody.
            self._lines = os.open(fifo, os.O_RDWR)

        spec = Spec(name="one", kinds=("one",), argv=argv, ready=ready, share=share)
        await self.supervisor.start([spec])
        return self.supervisor.pids()["one"][0]

    async def another(self, name: str) -> int:
        os.write(self._lines, f"{name}\n".encode())
        said = self.folder / name
        await until(lambda: said.exists() and said.read_text() != "")
        self.pids.append(int(said.read_text()))
        return self.pids[-1]

    async def close(self) -> None:
        await self.supervisor.stop()
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        os.close(self._lines)
        self.console.close()


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    null = os.open(os.devnull, os.O_WRONLY)
    room = Room(tmp_path, null)
    yield room
    await room.close()
    os.close(null)


def priority(pid: int) -> tuple[int, str]:
    """Its own, and its session's where the kernel has such."""
    group = Path(f"/proc/{pid}/autogroup")
    words = group.read_text().split() if group.exists() else []
    return os.getpriority(os.PRIO_PROCESS, pid), words[-1] if words else "10"


async def test_who_writes_the_ledger_goes_behind_with_all_that_it_starts(
    room: Room,
) -> None:
    first_core = frozenset(usable()[:1])
    root = await room.start(Share(first_core, is_behind=True))
    await until(lambda: priority(root) == (10, "10"))
    later = await room.another("later")
    # It inherits all but the priority of a session.
    await until(lambda: priority(later) == (10, "10"))

    assert os.sched_getaffinity(root) == os.sched_getaffinity(later) == first_core
