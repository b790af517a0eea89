"""Starts processes in order, keeps them running, and ends them in reverse."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from local.child import Child, Spec
from local.console import Console
from local.relay import Output
from local.shares import ANY, Divider, Share
from local.together import side_by_side
from local.watchdog import MARKER


class Supervisor:
    """All processes of a stack."""

    def __init__(
        self,
        *,
        stack: str,
        environ: Mapping[str, str],
        console: Console,
        logs: Path,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._environ = {**environ, MARKER: stack}
        self._console = console
        self._logs = logs
        self._on_change = on_change
        self._layers: dict[int, list[Child]] = {}
        self._dividing: asyncio.Task[None] | None = None

    async def start(self, specs: Sequence[Spec], layer: int = 0) -> None:
        """Start these side by side, and wait until all are ready.

        The higher the layer, the earlier they are stopped; of one, all at once.

        Raises:
            StartError: the first that failed; the others keep their state.
        """
        if self._dividing is None:
            divider = Divider().run(self._shares)
            self._dividing = asyncio.create_task(divider)
        children = [self._child(spec) for spec in specs]
        self._layers.setdefault(layer, []).extend(children)
        await side_by_side(*(child.start(self._changed) for child in children))

    async def stop(self) -> None:
        """From the highest layer down; nothing is restarted any more."""
        if self._dividing is not None:
            self._dividing.cancel()
            await asyncio.wait({self._dividing})
        while self._layers:
            highest = max(self._layers)
            await asyncio.gather(*(child.stop() for child in self._layers[highest]))
            del self._layers[highest]

    def kill(self) -> None:
        for child in self._children():
            child.kill()

    def pids(self) -> dict[str, list[int]]:
        """The living processes by kind, from the lowest layer up."""
        found: dict[str, list[int]] = {}
        for child in self._children():
            for kind in child.spec.kinds:
                pids = found.setdefault(kind, [])
                if child.pid is not None:
                    pids.append(child.pid)
        return found

    def _shares(self) -> dict[int, Share]:
        """Of those that have started: a start makes use of every core."""
        return {
            child.pid: child.spec.share
            for child in self._children()
            if child.pid is not None and child.is_ready and child.spec.share != ANY
        }

    def _children(self) -> list[Child]:
        return [child for _, layer in sorted(self._layers.items()) for child in layer]

    def _child(self, spec: Spec) -> Child:
        show = partial(self._console.log, spec.name)
        return Child(spec, self._environ, Output(self._logs / f"{spec.name}.log", show))

    def _changed(self, text: str) -> None:
        self._console.note(text)
        self._on_change()
