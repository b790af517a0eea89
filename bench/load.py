"""As many requests as a gateway answers: wrk, and how its result is read."""

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Final

from bench.programs import Failed

_SCRIPT: Final = Path(__file__).with_name("wrk.lua")
_MARK: Final = "RESULT "
_LATE_S: Final = 30.0
#: wrk itself and the reading of a large token file are ready by then.
_BEFORE_END_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """Callers that ask again as soon as they are answered."""

    tokens: Path
    path: str = "/api/load/x"
    paths: int = 1
    connections: int = 64
    seconds: int = 5
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What wrk saw; `refused`: answers ≥ 400, `broken`: connections, timeouts."""

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float
    cpu_s: float

    @property
    def rate(self) -> float:
        return (self.requests - self.refused) / self.seconds

    @property
    def errors(self) -> int:
        return self.refused + self.broken


@dataclass(frozen=True, slots=True)
class Wrk:
    """The program and its environment."""

    program: Path
    environ: Mapping[str, str]

    def run(
        self, port: int, load: Load, near_the_end: Callable[[], None] = lambda: None
    ) -> Result:
        """Load a port of loopback; `near_the_end` is called half a second before.

        Raises:
            Failed: wrk gave no result.
        """
        argv = (
            *(str(self.program), "-t1", f"-c{load.connections}", f"-d{load.seconds}s"),
            *("--timeout", "10s", "-s", str(_SCRIPT), f"http://127.0.0.1:{port}"),
            *("--", str(load.tokens), str(load.skip), load.path, str(load.paths)),
        )
        before = os.times()
        process = subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(self.environ),
            start_new_session=True,
        )
        try:
            sleep(load.seconds - _BEFORE_END_S)
            near_the_end()
            output, _ = process.communicate(timeout=_LATE_S)
        finally:
            process.kill()
            process.wait()
        after = os.times()
        cpu_s = (after.children_user + after.children_system) - (
            before.children_user + before.children_system
        )
        return parse(output, cpu_s)


def parse(output: str, cpu_s: float) -> Result:
    """The line that `wrk.lua` writes.

    Raises:
        Failed: there is none.
    """
    for line in output.splitlines():
        if line.startswith(_MARK):
            return Result(**json.loads(line.removeprefix(_MARK)), cpu_s=cpu_s)
    raise Failed(f"wrk gave no result: {output[-300:]}")
