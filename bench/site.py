"""The place of a measurement: one upstream, one key, one load generator."""

import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from json import loads
from pathlib import Path
from time import sleep
from types import FrameType
from typing import Any, Final

from bench import machine, tokens
from bench.installed import Cache
from bench.load import Load, Result, Wrk
from bench.pace import Paced
from bench.peers import nginx
from bench.peers.port import Running, Site
from bench.tokens import Issuer

_USERS: Final = 100
_LATE_S: Final = 30
_OPEN_FILES: Final = 16_384
#: At most ten seconds, or until less than a tenth of a core is used.
_SETTLE_TURNS: Final = 20
_SETTLE_S: Final = 0.5
_IDLE_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load showed, and what it took."""

    result: Result
    #: Part of the gateway -> milliseconds of CPU for 10,000 requests.
    cpu_ms: dict[str, float]
    #: Part -> KB under load.
    rss_kb: dict[str, int]
    pss_kb: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "rate": self.result.rate, "errors": self.result.errors}


@dataclass(frozen=True, slots=True)
class Place:
    """Where gateways are measured. `tokens`: of a hundred users."""

    site: Site
    wrk: Wrk
    issuer: Issuer
    tokens: Path
    cores: list[int]
    upstream_pid: int

    def load(self, running: Running, load: Load) -> Loaded:
        """As much as it answers."""
        pids = running.pids()
        memory: dict[str, machine.Memory] = {}

        def look() -> None:
            found = running.pids()
            memory.update({part: machine.memory(found[part]) for part in found})

        before = self._cpu(pids)
        result = self.wrk.run(running.port, load, look)
        after = self._cpu(pids)
        share = 10_000 * 1000 / max(1, result.requests)
        cpu = {part: (after[part] - before[part]) * share for part in after}
        return Loaded(
            result,
            {**cpu, "wrk": result.cpu_s * share},
            {part: found.rss for part, found in memory.items()},
            {part: found.pss for part, found in memory.items()},
        )

    def settle(self, running: Running) -> None:
        """Until what a load left behind is done: rows to write, garbage to collect."""
        for _ in range(_SETTLE_TURNS):
            before = sum(self._cpu(running.pids()).values())
            sleep(_SETTLE_S)
            used = sum(self._cpu(running.pids()).values()) - before
            if used < _SETTLE_S * _IDLE_SHARE:
                return

    def paced(self, running: Running, rate: int, seconds: int) -> Paced:
        """What a caller waits at that rate."""
        argv = (
            *(sys.executable, "-m", "bench.pace", "--port", str(running.port)),
            *("--tokens", str(self.tokens), "--rate", str(rate)),
            *("--seconds", str(seconds)),
        )
        done = subprocess.run(
            argv,
            check=True,
            capture_output=True,
            text=True,
            timeout=seconds + _LATE_S,
            env=dict(self.site.environ),
            start_new_session=True,
        )
        return Paced(**loads(done.stdout))

    def _cpu(self, pids: Mapping[str, set[int]]) -> dict[str, float]:
        found = {part: machine.cpu_seconds(pids[part]) for part in pids}
        upstream = machine.cpu_seconds(machine.tree([self.upstream_pid]))
        return {**found, "upstream": upstream}


@contextmanager
def prepared(cache: Cache, cores: int = 2) -> Iterator[Place]:
    """A place, for as long as the block lasts; everything in it ends with it."""
    chosen = machine.pin(cores)
    machine.allow_open_files(_OPEN_FILES)
    work = Path(tempfile.mkdtemp(prefix="hubgate-bench-"))
    restore = _stop_at_signals()
    try:
        secret = secrets.token_hex(32).encode()
        (work / "secret").write_bytes(secret)
        issuer = Issuer(secret)
        file = tokens.write(work / "tokens", tokens.users(issuer, _USERS))
        wrk = Wrk(cache.wrk(), cache.debian_environ())
        with nginx.upstream(cache, work / "upstream") as (port, upstream):
            site = Site(work, cache, work / "secret", port)
            yield Place(site, wrk, issuer, file, chosen, upstream.pid)
    finally:
        restore()
        shutil.rmtree(work, ignore_errors=True)


def _stop_at_signals() -> Callable[[], None]:
    """Make the polite signals end the blocks that are open, as Ctrl-C does."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore
