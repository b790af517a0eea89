"""Kill everything, in turn and at random moments, and compare with the ledger.

    python -m bench.chaos [--quick] [--only usage_sink,envoy,…]

Starts a stack of its own, sends 300 requests a second and writes each of them down.
Then, one campaign after another: kill -9 of each process; PostgreSQL frozen for a
minute; the spool's disk full. After each the client's journal and the ledger must
agree: nothing lost, nothing doubled, no count wrong, `unsettled` only where Envoy
itself was killed. Loopback only; about ten minutes, `--quick` about three.
"""

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.clock import SystemClock
from tests.e2e.journal import Agreement, Journal
from tests.e2e.stack import Stack, a_user, eventually, running_stack

CLOCK = SystemClock()
RATE = 300.0
#: Requests that never end (a WebSocket) are no part of this: all are over by then.
SETTLE_S = 60.0
UNSETTLED_AFTER_S = 4
KILLS = {
    "usage_sink": 10,
    "postgres": 3,
    "redis": 1,
    "control": 1,
    "authz": 1,
    "ratelimit": 1,
    "envoy": 5,
}
FROZEN_S = 60.0
#: The supervisor waits longer before each further start.
BACK_WITHIN_S = 30.0
TMPFS_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Campaign:
    """What happened and what the ledger says."""

    name: str
    found: Agreement
    note: str = ""

    @property
    def is_good(self) -> bool:
        may_be_unsettled = self.name.startswith("kill -9 envoy")
        return self.found.is_exact and (may_be_unsettled or not self.found.unsettled)

    def __str__(self) -> str:
        found = self.found
        return (
            f"{self.name:<34}{found.answered:>8}{found.unanswered:>6}{found.rows:>8}"
            f"{len(found.lost):>6}{found.doubled:>8}{len(found.miscounted):>11}"
            f"{len(found.unsettled):>11}  {'ok' if self.is_good else 'FAILED'}"
            f"{'  ' + self.note if self.note else ''}"
        )


HEADING = (
    f"{'campaign':<34}{'answered':>8}{'none':>6}{'rows':>8}{'lost':>6}"
    f"{'doubled':>8}{'miscounted':>11}{'unsettled':>11}"
)


@contextlib.asynccontextmanager
async def loaded(stack: Stack) -> AsyncIterator[Journal]:
    """Requests go out inside the block, of a user of its own."""
    user = a_user()
    journal = Journal(stack.gateway, user, stack.token(user, "admin"))
    stop = asyncio.Event()
    loading = asyncio.create_task(journal.load(RATE, stop))
    try:
        yield journal
    finally:
        stop.set()
        await loading


async def kill(stack: Stack, kind: str, times: int, chance: random.Random) -> Campaign:
    async with loaded(stack) as journal:
        for _ in range(times):
            await asyncio.sleep(1.5 + chance.random() * 2)
            victims = await asyncio.to_thread(
                eventually, lambda: stack.pids()[kind], BACK_WITHIN_S
            )
            os.kill(chance.choice(victims), signal.SIGKILL)
        await asyncio.sleep(4)
    found = await journal.settled(stack.ready["database_url"], SETTLE_S)
    return Campaign(f"kill -9 {kind} x {times}", found)


async def freeze(stack: Stack, seconds: float) -> Campaign:
    """PostgreSQL answers nobody; clients must not notice."""
    async with loaded(stack) as journal:
        await asyncio.sleep(5)
        mark = len(journal.sent)
        with frozen(stack.pids()["postgres"][0]):
            await asyncio.sleep(seconds)
            away = len(journal.sent)
        await asyncio.sleep(1)
    found = await journal.settled(stack.ready["database_url"], SETTLE_S)
    before = statistics.median(one.seconds for one in journal.sent[mark // 2 : mark])
    during = statistics.median(one.seconds for one in journal.sent[mark:away])
    note = (
        f"p50 {before * 1e3:.1f} ms, away {during * 1e3:.1f}: x {during / before:.2f}"
    )
    return Campaign(f"postgres frozen {seconds:.0f} s", found, note)


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process and its children, stopped for the length of the block."""
    family = [pid, *_children(pid)]
    for one in family:
        _signal(one, signal.SIGSTOP)
    try:
        yield
    finally:
        for one in family:
            _signal(one, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system of 1 MiB; None where this user may not mount one."""
    folder.mkdir(parents=True)
    options = ("-t", "tmpfs", "-o", f"size={TMPFS_BYTES},mode=0700", "tmpfs")
    if not _runs("mount", *options, str(folder)):
        yield None
        return
    try:
        yield folder
    finally:
        _runs("umount", "--lazy", str(folder))


def _runs(program: str, *arguments: str) -> bool:
    found = shutil.which(program)
    if found is None:
        return False
    return subprocess.run([found, *arguments], check=False).returncode == 0


async def fill_the_disk(folder: Path) -> Campaign | None:
    """The spool's disk fills while PostgreSQL is away, and is emptied again."""
    with small_disk(folder / "spool") as disk:
        if disk is None:
            sys.stdout.write("spool disk full: not run, no tmpfs can be mounted here\n")
            return None
        env = {"HUBGATE_USAGE_SINK_SPOOL_DIR": str(disk / "spool")}
        with running_stack(folder / "stack", env=env) as stack:
            async with loaded(stack) as journal:
                await asyncio.sleep(2)
                with frozen(stack.pids()["postgres"][0]):
                    fullest = 0.0
                    for _ in range(40):
                        await asyncio.sleep(1)
                        usage = shutil.disk_usage(disk)
                        fullest = max(fullest, usage.used / usage.total)
                await asyncio.sleep(2)
            found = await journal.settled(stack.ready["database_url"], SETTLE_S)
    return Campaign("spool's disk full", found, f"at most {fullest:.0%} used")


class Results:
    """Prints each campaign as it ends."""

    def __init__(self) -> None:
        self.is_good = True
        sys.stdout.write(HEADING + "\n")

    def show(self, campaign: Campaign | None) -> None:
        if campaign is not None:
            self.is_good &= campaign.is_good
            sys.stdout.write(f"{campaign}\n")
            sys.stdout.flush()


async def main(wanted: set[str], *, quick: bool) -> None:
    results = Results()
    with tempfile.TemporaryDirectory() as folder:
        await in_one_stack(Path(folder), results, wanted, quick=quick)
        if "disk" in wanted:
            results.show(await fill_the_disk(Path(folder) / "disk"))
    if not results.is_good:
        raise SystemExit("the journal and the ledger do not agree")


async def in_one_stack(
    folder: Path, results: Results, wanted: set[str], *, quick: bool
) -> None:
    chance = random.Random()  # noqa: S311 - another moment every time
    env = {"HUBGATE_UNSETTLED_AFTER_S": str(UNSETTLED_AFTER_S)}
    with running_stack(folder / "stack", env=env) as stack:
        for kind, times in KILLS.items():
            if kind in wanted:
                wanted_times = min(times, 2) if quick else times
                results.show(await kill(stack, kind, wanted_times, chance))
        if "freeze" in wanted:
            results.show(await freeze(stack, 10 if quick else FROZEN_S))
        if "verify" in wanted:
            done = await asyncio.to_thread(stack.command, "usage", "verify")
            sys.stdout.write(done.stdout + done.stderr)
            results.is_good &= done.returncode == 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--only", default=",".join((*KILLS, "freeze", "verify", "disk"))
    )
    given = parser.parse_args()
    asyncio.run(main(set(given.only.split(",")), quick=given.quick))
