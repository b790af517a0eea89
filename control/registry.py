"""Instances that register themselves, each for as long as its heartbeats last.

Rules. An instance is known until its time is over or it was removed on purpose. One
that Redis has merely forgotten (emptied, restarted) stays for the rest of its time:
its next heartbeat is on the way. While Redis is away nobody can be heard, so nobody
expires; when it is back, all get one whole time to be heard again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from control.values import Instance, instance


class RegistryUnavailable(Exception):
    """Redis can't answer now; the instance may or may not be registered."""


@dataclass(frozen=True, slots=True)
class Registration:
    """An instance of a service at `address`, to be heard of again within `ttl_s`."""

    service: str
    instance: str
    address: str
    ttl_s: float

    @property
    def key(self) -> tuple[str, str]:
        return self.service, self.instance


@dataclass(frozen=True, slots=True)
class Seen:
    """A registration as the store has it; `left_s` is None once it was removed."""

    registration: Registration
    left_s: float | None


class RegistryStore(Protocol):
    """What all controls share. Every method raises RegistryUnavailable."""

    async def register(self, one: Registration) -> None:
        """Add it or prolong it."""

    async def remove(self, service: str, name: str) -> bool:
        """Remove it for every control; False when there was none."""

    async def read(self) -> Sequence[Seen]:
        """All that have not expired."""


@dataclass(frozen=True, slots=True)
class _Member:
    registration: Registration
    expires: float


class Membership:
    """Who is registered, as far as this process knows. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._members: dict[tuple[str, str], _Member] = {}
        self._was_away = False

    def take(self, seen: Sequence[Seen], now: float) -> None:
        """What the store says now."""
        if self._was_away:
            self._was_away = False
            self._prolong(now)
        for one in seen:
            key = one.registration.key
            if one.left_s is None:
                self._members.pop(key, None)
            else:
                self._members[key] = _Member(one.registration, now + one.left_s)
        self._members = {
            key: one for key, one in self._members.items() if one.expires > now
        }

    def missed(self) -> None:
        """The store did not answer."""
        self._was_away = True

    def of(self, service: str) -> list[Registration]:
        found = (one.registration for one in self._members.values())
        return sorted(
            (one for one in found if one.service == service), key=lambda one: one.key
        )

    def addresses(self) -> Mapping[str, tuple[Instance, ...]]:
        """By service; the same content is equal, whatever its order was."""
        services = {service for service, _ in self._members}
        return {
            service: tuple(
                dict.fromkeys(instance(one.address) for one in self.of(service))
            )
            for service in sorted(services)
        }

    def _prolong(self, now: float) -> None:
        for key, one in self._members.items():
            expires = max(one.expires, now + one.registration.ttl_s)
            self._members[key] = replace(one, expires=expires)


class MemoryRegistryStore:
    """For tests and tools; expires nothing."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], Seen] = {}
        self.is_available = True

    async def register(self, one: Registration) -> None:
        self._answer()
        self.seen[one.key] = Seen(one, one.ttl_s)

    async def remove(self, service: str, name: str) -> bool:
        self._answer()
        one = self.seen.get((service, name))
        if one is None or one.left_s is None:
            return False
        self.seen[service, name] = replace(one, left_s=None)
        return True

    async def read(self) -> Sequence[Seen]:
        self._answer()
        return list(self.seen.values())

    def _answer(self) -> None:
        if not self.is_available:
            raise RegistryUnavailable
