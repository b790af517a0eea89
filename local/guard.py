"""Holds the watchdog's leash: when this process is gone, the watchdog acts."""

import asyncio
import contextlib
import os
import subprocess
import sys

from local import watchdog

_SWEEP_DEADLINE_S = 10.0


class Guard:
    """A watchdog process that is there for as long as the supervisor."""

    def __init__(self, stack: str) -> None:
        self._stack = stack
        self._leash = -1
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Let it sweep what a clean stop may have overlooked, and wait for it."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        if self._process is not None:
            os.close(self._leash)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_DEADLINE_S):
                    await self._process.wait()

    async def _spawn(self) -> None:
        read_end, self._leash = os.pipe()
        try:
            # By path and isolated: no site, no import path, no marker of the stack.
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", watchdog.__file__, self._stack),
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(read_end)

    async def _keep(self) -> None:
        while self._process is not None:
            await self._process.wait()
            os.close(self._leash)
            await self._spawn()
            await asyncio.sleep(1)  # a machine that cannot run it must not spin
