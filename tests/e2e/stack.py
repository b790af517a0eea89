"""Drives the command `hubgate` and the addresses that it prints."""

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import httpx

from runtime.clock import SystemClock

HUBGATE = Path(sys.executable).with_name("hubgate")
START_DEADLINE_S = 100.0
STOP_DEADLINE_S = 40.0

T = TypeVar("T")
#: Set where tests run in several processes.
_BESIDE_OTHERS = "PYTEST_XDIST_WORKER"
_CLOCK = SystemClock()
_PAUSE = threading.Event()


def eventually(look: Callable[[], T], seconds: float, pause_s: float = 0.05) -> T:
    """What `look` gives as soon as it is true; fails when it never is in time."""
    deadline = _CLOCK.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert _CLOCK.monotonic() < deadline, f"not within {seconds} s"
        _PAUSE.wait(pause_s)


def limits_of(ask: Callable[[], httpx.Response]) -> set[str | None]:
    """The limit by each process that decides: a new one reaches each by itself."""
    return {ask().headers.get("ratelimit-limit") for _ in range(20)}


class Stack:
    """`hubgate up --demo` of one data directory, and what its ready line said."""

    def __init__(
        self, folder: Path, *options: str, env: Mapping[str, str] | None = None
    ) -> None:
        self.log = folder / "supervisor.log"
        self._folder = folder
        self._options = options
        environ = os.environ  # noqa: TID251 - of a child process
        # Stacks side by side: whose Envoys would all have the same core.
        free = {"HUBGATE_PIN_CORES": "false"} if _BESIDE_OTHERS in environ else {}
        self._env = {**environ, **free, **(env or {})}
        self.start()

    def start(self) -> None:
        """Start it, the first time or again, and wait for the ready line."""
        self.http = httpx.Client(timeout=20)
        self._folder.mkdir(parents=True, exist_ok=True)
        data_dir = ("--data-dir", str(self._folder))
        with self.log.open("w") as errors:
            self.process = subprocess.Popen(
                [
                    *(HUBGATE, "up", "--json", "--demo", "--port", "0"),
                    *(*data_dir, *self._options),
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=self._env,
                start_new_session=True,
            )
        lines: SimpleQueue[str] = SimpleQueue()
        relay = threading.Thread(target=_relay, args=(self.process, lines), daemon=True)
        relay.start()
        try:
            self.ready: dict[str, Any] = json.loads(lines.get(timeout=START_DEADLINE_S))
        except (Empty, json.JSONDecodeError) as error:
            self.kill()
            said = self.log.read_text()[-4000:]
            raise AssertionError(f"no ready line:\n{said}") from error

    @property
    def gateway(self) -> str:
        return str(self.ready["gateway"])

    @property
    def data_dir(self) -> Path:
        return Path(self.ready["data_dir"])

    def pids(self) -> dict[str, list[int]]:
        """As they are now: a restarted process has another pid."""
        state = json.loads((self.data_dir / "stack.json").read_text())
        return dict(state["pids"])

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `hubgate …` against this stack."""
        control = (
            "--control",
            str(self.ready["control"]),
            "--admin-token",
            str(self.ready["admin_token"]),
        )
        return subprocess.run(
            [HUBGATE, *arguments, *control],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def token(self, user: str | None = None, role: str = "user") -> str:
        """A token of a user of the test's own."""
        answer = self.control(
            "POST", "tokens", {"user": user or a_user(), "role": role}
        )
        answer.raise_for_status()
        return str(answer.json()["token"])

    def get(self, path: str, token: str | None = None, **kwargs: Any) -> httpx.Response:
        return self.request("GET", path, token, **kwargs)

    def request(
        self, method: str, path: str, token: str | None = None, **kwargs: Any
    ) -> httpx.Response:
        headers = dict(kwargs.pop("headers", {}))
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return self.http.request(method, self.gateway + path, headers=headers, **kwargs)

    def control(
        self, method: str, path: str, body: object | None = None
    ) -> httpx.Response:
        """Call the control API as the administrator."""
        return self.http.request(
            method,
            f"{self.ready['control']}/control/v1/{path}",
            json=body,
            headers={"authorization": f"Bearer {self.ready['admin_token']}"},
        )

    def is_whole(self) -> bool:
        """No process is being started again."""
        now = self.pids()
        wanted: dict[str, list[int]] = self.ready["pids"]
        return all(len(now[kind]) == len(pids) for kind, pids in wanted.items())

    def is_healthy(self) -> bool:
        """A request passes, is limited, and control and its database answer."""
        if not self.is_whole():
            return False
        try:
            token = self.token(role="admin")
            answer = self.get("/api/users/me", token)
            usage = self.get("/api/usage/logs", token)
            ready = self.http.get(f"{self.ready['control']}/health/ready")
        except httpx.HTTPError:  # no token is issued while the database is away
            return False
        return {answer.status_code, usage.status_code, ready.status_code} == {200}

    def kill(self) -> None:
        """End the supervisor as the kernel would."""
        self.http.close()
        self.process.kill()
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Give the exit status."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_DEADLINE_S)


def a_user() -> str:
    return f"user-{uuid.uuid4().hex[:12]}"


def _relay(process: subprocess.Popen[str], lines: SimpleQueue[str]) -> None:
    """Read all output, so that it never blocks; only the first line matters."""
    assert process.stdout is not None
    with process.stdout:
        lines.put(process.stdout.readline())
        for _ in process.stdout:
            pass


@contextmanager
def running_stack(
    data_dir: Path, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    stack = Stack(data_dir, *options, env=env)
    try:
        yield stack
    finally:
        status = stack.stop()
    assert status == 0


def processes_of(data_dir: Path) -> dict[int, str]:
    """Whatever still runs with this data directory in its environment or arguments."""
    found: dict[int, str] = {}
    needle = str(data_dir).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            environ = (entry / "environ").read_bytes()
        except OSError:
            continue
        if needle in command or needle in environ:
            found[int(entry.name)] = command.replace(b"\0", b" ").decode(
                errors="replace"
            )
    return found
