"""Processes of a bench: started, waited for, and ended by their own id."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Final

_STOP_S: Final = 15.0
_PROBE_EVERY_S: Final = 0.02
_TAIL: Final = 600


class Failed(Exception):
    """A program did not do what a measurement needs."""


@dataclass(frozen=True, slots=True)
class Program:
    """A running process and where its output goes."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until(
        self, ready: Callable[[], bool], what: str, seconds: float = 60.0
    ) -> None:
        """Wait for its readiness.

        Raises:
            Failed: it ended, or took too long; with the end of its output.
        """
        deadline = perf_counter() + seconds
        while not ready():
            ended = self.process.poll() is not None
            if ended or perf_counter() > deadline:
                tail = self.log.read_text(errors="replace")[-_TAIL:]
                raise Failed(f"{what}: {'ended' if ended else 'not ready'}: {tail}")
            sleep(_PROBE_EVERY_S)

    def wait_for_port(self, port: int) -> None:
        self.wait_until(lambda: _listens(port), f"port {port}")


@contextlib.contextmanager
def running(
    argv: Sequence[str | Path], log: Path, environ: Mapping[str, str]
) -> Iterator[Program]:
    """A process for as long as the block lasts, with those that it starts itself."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            start_new_session=True,  # Ctrl-C reaches the bench alone, which ends it
        )
    try:
        yield Program(process, log)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    # Its session was made for it: nothing of anybody else's is in that group.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False
