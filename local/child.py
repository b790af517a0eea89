"""One process: started, kept running, and ended when it is told so."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local.accounts import Account, identity
from local.errors import LocalError, StartError
from local.relay import LineProtocol, Output
from local.shares import ANY, Share

#: Seconds before the first, second, … restart of a process that keeps dying.
_BACK_OFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)
_STABLE_AFTER_S = 10.0
_PROBE_EVERY_S = 0.05
_PROBE_TIMEOUT_S = 2.0
_LAST_OUTPUT_S = 0.5

Step = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One process: how to start it, when it is ready, how it is stopped."""

    name: str
    kinds: tuple[str, ...]  # what it is called in `pids`
    argv: tuple[str, ...]
    ready: Step  # raises while the process is not ready
    alive: Step | None = None  # asked after a restart, when a dependency may be away
    env: Mapping[str, str] = field(default_factory=dict)
    prepare: Step | None = None  # before each start: what a killed one left behind
    before_stop: Step | None = None
    ready_timeout_s: float = 45.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0
    cwd: Path | None = None
    account: Account | None = None
    share: Share = ANY


class Child:
    """A process that is restarted until it is told to stop."""

    def __init__(self, spec: Spec, environ: Mapping[str, str], output: Output) -> None:
        self.spec = spec
        self.restarts = 0
        self.is_ready = False
        self._environ = {**environ, **spec.env}
        self._output = output
        self._process: asyncio.subprocess.Process | None = None
        self._relay: LineProtocol | None = None
        self._stopping = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process and process.returncode is None else None

    async def start(self, on_change: Callable[[str], None]) -> None:
        """Start it and wait until it is ready; from then on it is kept running.

        Raises:
            StartError: it ended, or took too long.
        """
        await self._spawn()
        await self._until(self.spec.ready)
        self._keeper = asyncio.create_task(self._keep(on_change))

    async def stop(self) -> None:
        """Ask it to stop, wait, and use force only after its deadline."""
        self._stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        process = self._process
        if process is not None and process.returncode is None:
            await self._ask_to_stop(process)
        await self._close_relay()
        self._output.close()

    def kill(self) -> None:
        """End it now, with everything in its process group."""
        self._stopping = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _spawn(self) -> None:
        self.is_ready = False
        if self.spec.prepare is not None:
            await self.spec.prepare()
        await self._close_relay()
        # Our own pipe, not asyncio's: a grandchild that keeps the write end open
        # must not keep us from seeing that the child ended.
        read_end, write_end = os.pipe()
        relay = self._relay = LineProtocol(self._output)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: relay, os.fdopen(read_end, "rb", buffering=0)
        )
        try:
            # A session of its own: Ctrl-C in the terminal reaches the supervisor only.
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.argv,
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                env=self._environ,
                start_new_session=True,
                cwd=self.spec.cwd,
                **identity(self.spec.account),
            )
        except OSError as error:
            raise StartError(f"cannot start {self.spec.name}: {error}") from error
        finally:
            os.close(write_end)

    async def _until(self, probe: Step) -> None:
        process = self._process
        assert process is not None  # noqa: S101 - started just before
        exited = asyncio.ensure_future(process.wait())
        problem: Exception | None = None
        try:
            async with asyncio.timeout(self.spec.ready_timeout_s):
                while not exited.done():
                    problem = await _problem(probe)
                    if problem is None:
                        self.is_ready = True
                        return
                    await asyncio.wait({exited}, timeout=_PROBE_EVERY_S)
        except TimeoutError:
            raise StartError(
                f"{self.spec.name} was not ready after {self.spec.ready_timeout_s:g} s"
                f" ({problem}){self._last_words()}"
            ) from None
        finally:
            exited.cancel()
        await self._close_relay()
        raise StartError(
            f"{self.spec.name} {_ending(process.returncode)} while it started"
            f"{self._last_words()}"
        )

    async def _keep(self, on_change: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        while self._process is not None:
            since = loop.time()
            ending = _ending(await self._process.wait())
            self._end_group()
            if loop.time() - since > _STABLE_AFTER_S:
                attempt = 0
            delay = _BACK_OFF_S[min(attempt, len(_BACK_OFF_S) - 1)]
            attempt += 1
            on_change(f"{self.spec.name} {ending}; starting it again in {delay:g} s")
            await asyncio.sleep(delay)
            await self._restart(on_change)

    async def _restart(self, on_change: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        since = loop.time()
        self.restarts += 1
        try:
            await self._spawn()
            await self._until(self.spec.alive or self.spec.ready)
        except LocalError as error:
            self._end_group()
            on_change(str(error))
        else:
            on_change(f"{self.spec.name} is back after {loop.time() - since:.1f} s")

    def _end_group(self) -> None:
        """What a dead process left running would hold its port or socket."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _ask_to_stop(self, process: asyncio.subprocess.Process) -> None:
        if self.spec.before_stop is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_PROBE_TIMEOUT_S):
                    await self.spec.before_stop()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(self.spec.stop_signal)
        try:
            async with asyncio.timeout(self.spec.stop_timeout_s):
                await process.wait()
        except TimeoutError:
            self._output.line(b"did not stop in time: killed")
        self._end_group()
        await process.wait()

    async def _close_relay(self) -> None:
        if self._relay is not None:
            await self._relay.finish(_LAST_OUTPUT_S)
            self._relay = None

    def _last_words(self) -> str:
        return "".join(f"\n    {line}" for line in self._output.tail)


async def _problem(probe: Step) -> Exception | None:
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            await probe()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is not ready
        return error
    return None


def _ending(status: int | None) -> str:
    if status is not None and status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
