"""Alert rules, their states and what is still to be told; with a twin in memory."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from control.alert_rules import AlertRule
from control.alert_state import AlertState, Message, Status, new, resolved
from control.store import StoreUnavailable
from runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class Kept:
    """A rule with its state; each change of the rule gives it another `version`."""

    rule: AlertRule
    version: int
    state: AlertState


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on its way; `attempts` so far."""

    id: int
    rule: str
    url: str
    body: dict[str, Any]
    attempts: int
    created_at: datetime


Held = Callable[[], Awaitable[bool]]


class AlertStore(Protocol):
    """Every method raises StoreUnavailable."""

    async def rules(self) -> Sequence[Kept]:
        """All, by id."""

    async def get(self, rule: str) -> Kept | None:
        """One of them."""

    async def put(self, rule: AlertRule, now: datetime) -> bool:
        """New or changed. True: it was not there before.

        Its state stays, but what was pending begins anew: the rule may be another.
        """

    async def delete(self, rule: str, now: datetime) -> bool:
        """False: it was not there. If it fired, that is told to be over."""

    async def step(
        self, before: Kept, state: AlertState, message: Message | None
    ) -> bool:
        """State and message together. False: rule or state are others by now."""

    async def due(self, now: datetime, limit: int) -> Sequence[Delivery]:
        """What may be sent; of each rule the oldest only, so that order is kept."""

    async def delivered(self, delivery: Delivery, now: datetime) -> None:
        """It is not sent again."""

    async def postponed(
        self, delivery: Delivery, reason: str, next_at: datetime | None
    ) -> None:
        """It was not taken; None: it is given up."""

    def leading(self) -> AbstractAsyncContextManager[Held]:
        """Inside, `held()` tells whether this control is the one that evaluates.

        Who does not ask for long may lose it to another.
        """


@dataclass
class Outgoing:
    """A message in memory."""

    delivery: Delivery
    key: tuple[str, datetime, str]
    next_at: datetime
    is_done: bool = False
    error: str | None = None


class MemoryAlertStore:
    """For tests and tools."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[str, Kept] = {}
        self.outbox: list[Outgoing] = []
        self.is_available = True
        self.is_leader = True

    async def rules(self) -> Sequence[Kept]:
        self._answer()
        return [self._kept[name] for name in sorted(self._kept)]

    async def get(self, rule: str) -> Kept | None:
        self._answer()
        return self._kept.get(rule)

    async def put(self, rule: AlertRule, now: datetime) -> bool:
        self._answer()
        known = self._kept.get(rule.id)
        if known is None:
            self._kept[rule.id] = Kept(rule, 1, new(now.timestamp()))
            return True
        is_pending = known.state.status is Status.PENDING
        state = new(now.timestamp()) if is_pending else known.state
        self._kept[rule.id] = Kept(rule, known.version + 1, state)
        return False

    async def delete(self, rule: str, now: datetime) -> bool:
        self._answer()
        known = self._kept.pop(rule, None)
        if known is not None and known.state.fired is not None:
            self._tell(resolved(rule, known.state.fired, now, {}))
        return known is not None

    async def step(
        self, before: Kept, state: AlertState, message: Message | None
    ) -> bool:
        self._answer()
        if self._kept.get(before.rule.id) != before:
            return False
        self._kept[before.rule.id] = replace(before, state=state)
        if message is not None:
            self._tell(message)
        return True

    async def due(self, now: datetime, limit: int) -> Sequence[Delivery]:
        self._answer()
        oldest: dict[str, Outgoing] = {}
        for one in self.outbox:
            if not one.is_done:
                oldest.setdefault(one.delivery.rule, one)
        ready = [one.delivery for one in oldest.values() if one.next_at <= now]
        return ready[:limit]

    async def delivered(self, delivery: Delivery, now: datetime) -> None:
        self._answer()
        self.outbox[delivery.id - 1].is_done = True

    async def postponed(
        self, delivery: Delivery, reason: str, next_at: datetime | None
    ) -> None:
        self._answer()
        one = self.outbox[delivery.id - 1]
        one.error = reason
        one.delivery = replace(one.delivery, attempts=delivery.attempts + 1)
        one.is_done = next_at is None
        one.next_at = next_at or one.next_at

    @asynccontextmanager
    async def leading(self) -> AsyncIterator[Held]:
        self._answer()

        async def held() -> bool:
            self._answer()
            return self.is_leader

        yield held

    def statuses(self) -> dict[str, Status]:
        """By rule, for tests."""
        return {name: one.state.status for name, one in self._kept.items()}

    def _tell(self, message: Message) -> None:
        fired = message.fired
        key = (fired.fingerprint, fired.starts_at, message.status)
        if any(one.key == key for one in self.outbox):
            return
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        delivery = Delivery(
            len(self.outbox) + 1,
            message.rule,
            fired.webhook,
            dict(message.body),
            0,
            now,
        )
        self.outbox.append(Outgoing(delivery, key, fired.starts_at))

    def _answer(self) -> None:
        if not self.is_available:
            raise StoreUnavailable
