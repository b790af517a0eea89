"""The configuration in force, and who has it.

One publish at a time: the caller serialises (control/changes.py does). A publish goes
in the steps of `Snapshot.steps_to`, each awaited from every connected Envoy; the
first refusal turns all of them back to the last good configuration. What is no longer
referred to stays for `LINGER_S`: Envoy looks a request's cluster up after authz and
ratelimit have decided, and again for each retry, by the route as it was.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from control.xds.snapshot import Snapshot
from control.xds.subscription import NodeStream, Refusal, Request, Response
from runtime.clock import Clock
from runtime.logs import get_logger
from runtime.metrics import Metrics

log = get_logger(__name__)

LINGER_S = 30.0


@dataclass(frozen=True, slots=True)
class Published:
    """Every connected Envoy has it, but for those in `waiting_for`."""

    nodes: tuple[str, ...]
    waiting_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Retirement:
    """What is left when the unused has gone, and when that may be (monotonic)."""

    remaining: Snapshot
    due: float


class Connection:
    """One Envoy's stream; `wake` is set when there may be something to send."""

    def __init__(self, node: str, snapshots: "SnapshotCache") -> None:
        self.node = NodeStream(node)
        self.wake = asyncio.Event()
        self._snapshots = snapshots

    def receive(self, request: Request) -> None:
        refusal = self.node.receive(request)
        if refusal is not None:
            self._snapshots.refused(refusal)
        self.wake.set()
        self._snapshots.changed()

    def due(self) -> list[Response]:
        return self.node.due(self._snapshots.target)


class SnapshotCache:
    """What every Envoy should have; empty until the first publish."""

    def __init__(
        self, metrics: Metrics, clock: Clock, linger_s: float = LINGER_S
    ) -> None:
        self.target = Snapshot()
        self._linger_s = linger_s
        self._retirement: _Retirement | None = None
        self._metrics = metrics
        self._clock = clock
        self._connections: list[Connection] = []
        self._progress = asyncio.Event()

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(sorted(one.node.node for one in self._connections))

    @contextmanager
    def connection(self, node: str) -> Iterator[Connection]:
        """A stream, counted as connected inside the block."""
        connection = Connection(node, self)
        self._connections.append(connection)
        self._metrics.set("hubgate_xds_streams", len(self._connections))
        log.info("envoy connected", envoy=node)
        try:
            yield connection
        finally:
            self._connections.remove(connection)
            self._metrics.set("hubgate_xds_streams", len(self._connections))
            log.info("envoy disconnected", envoy=node)
            self.changed()

    async def publish(
        self, snapshot: Snapshot, deadline_s: float
    ) -> Published | Refusal:
        """Bring every connected Envoy to `snapshot` within the deadline.

        After a Refusal all of them are on their way back to what was in force before.
        After the deadline `snapshot` stays the target: who is late gets it later.
        """
        good, deadline = self.target, self._clock.monotonic() + deadline_s
        retirement, self._retirement = self._retirement, None
        *steps, last = good.steps_to(snapshot)
        for step in (*steps, last):
            if step.version == self.target.version and step is not last:
                continue
            self._aim(step)
            refusal = await self._settled(step, deadline)
            if refusal is not None:
                self._aim(good)
                await self._settled(good, deadline)
                self._retirement = retirement
                return refusal
        if last.version != snapshot.version:
            due = self._clock.monotonic() + self._linger_s
            self._retirement = _Retirement(snapshot, due)
        late = [one for one in self._connections if not one.node.has_taken(last)]
        return Published(self.nodes, tuple(sorted(one.node.node for one in late)))

    def retire(self) -> None:
        """Remove what has not been referred to for long enough; call it often."""
        retirement = self._retirement
        if retirement is not None and self._clock.monotonic() >= retirement.due:
            self._retirement = None
            self._aim(retirement.remaining)

    def refused(self, refusal: Refusal) -> None:
        """Count a NACK; whoever publishes sees it on the stream itself."""
        kind = refusal.kind.name.lower()
        self._metrics.inc("hubgate_config_nacks_total", type=kind)
        log.error(
            "envoy refused a configuration",
            envoy=refusal.node,
            type=kind,
            version=refusal.version,
            reason=refusal.reason,
        )

    def changed(self) -> None:
        """Some Envoy answered, came or went."""
        self._progress.set()

    def _aim(self, target: Snapshot) -> None:
        self.target = target
        for connection in self._connections:
            connection.wake.set()

    async def _settled(self, target: Snapshot, deadline: float) -> Refusal | None:
        """Wait until all have taken `target`, one has refused it, or time is up."""
        while True:
            self._progress.clear()
            for one in self._connections:
                refusal = one.node.refusal_of(target)
                if refusal is not None:
                    return refusal
            if all(one.node.has_taken(target) for one in self._connections):
                return None
            left = deadline - self._clock.monotonic()
            try:
                async with asyncio.timeout(max(left, 0.0)):
                    await self._progress.wait()
            except TimeoutError:
                return None
