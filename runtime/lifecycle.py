"""Start, run until a signal, drain, close: the life of every process."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable

from runtime.settings import SettingsError

Main = Callable[[asyncio.Event], Awaitable[None]]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
EXIT_BAD_SETTINGS = 2
#: New objects between two collections. What a request makes goes with its answer, a
#: batch of rows lives until its commit, and neither is in cycles: looking through them
#: by the default (700) took 7 % of usage_sink's time.
_COLLECT_AFTER = 50_000


def collect_seldom() -> None:
    """Let the garbage collector pass over what is there now, and come seldom."""
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)


def run(
    main: Main, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> None:
    """Run `main(stop)`; SIGTERM or SIGINT sets `stop`, a second one exits at once.

    `main` returns after it has drained. Bad settings end the process with status 2
    and one line per problem, without a traceback.
    """
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_run(main))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_BAD_SETTINGS)


async def _run(main: Main) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        await main(stop)
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


async def wait_or_stop(stop: asyncio.Event, seconds: float) -> bool:
    """Wait; True when `stop` came first."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()
