"""What changes without this control's doing: others' revisions, and who registers.

Asked for, not announced: a question twice a second costs next to nothing and, unlike
an announcement, can't be missed.
"""

import asyncio

from control.changes import Changes
from control.registry import (
    Membership,
    Registration,
    RegistryStore,
    RegistryUnavailable,
)
from control.store import StoreUnavailable
from runtime.clock import Clock
from runtime.lifecycle import wait_or_stop
from runtime.logs import get_logger
from runtime.metrics import Metrics

log = get_logger(__name__)

INTERVAL_S = 0.25
#: An Envoy that runs knows its instances: better nothing new for a while than none.
FIRST_READ_DEADLINE_S = 5.0


class Registry:
    """The instances that are registered now, kept in force."""

    def __init__(
        self, store: RegistryStore, changes: Changes, clock: Clock, metrics: Metrics
    ) -> None:
        self._store = store
        self._changes = changes
        self._clock = clock
        self._metrics = metrics
        self._members = Membership()
        self._is_away = False

    async def register(self, one: Registration) -> None:
        """Known here at once; raises RegistryUnavailable."""
        await self._store.register(one)
        await self.refresh()

    async def remove(self, service: str, name: str) -> bool:
        """False when there was none; raises RegistryUnavailable."""
        removed = await self._store.remove(service, name)
        await self.refresh()
        return removed

    def of(self, service: str) -> list[Registration]:
        return self._members.of(service)

    async def refresh(self) -> bool:
        """Take what the store says; False when it says nothing."""
        try:
            seen = await self._store.read()
        except RegistryUnavailable as error:
            if not self._is_away:
                log.warning("registry not readable; all stay", error=str(error))
            self._is_away = True
            self._members.missed()
            return False
        self._is_away = False
        self._members.take(seen, self._clock.monotonic())
        addresses = self._members.addresses()
        self._metrics.set(
            "hubgate_registered_instances", sum(map(len, addresses.values()))
        )
        await self._changes.take_registered(addresses)
        return True


class Following:
    """Both, again and again."""

    def __init__(self, changes: Changes, registry: Registry, clock: Clock) -> None:
        self._changes = changes
        self._registry = registry
        self._clock = clock

    async def first(self, stop: asyncio.Event) -> None:
        """Know who is registered before any Envoy is told; for a while at most."""
        deadline = self._clock.monotonic() + FIRST_READ_DEADLINE_S
        while not await self._registry.refresh():
            late = self._clock.monotonic() >= deadline
            if late or await wait_or_stop(stop, INTERVAL_S):
                return

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, once a configuration is in force."""
        while not await wait_or_stop(stop, INTERVAL_S):
            await asyncio.gather(self._follow(), self._registry.refresh())

    async def _follow(self) -> None:
        try:
            await self._changes.follow()
        except StoreUnavailable as error:
            log.debug("revisions not readable", error=str(error))
