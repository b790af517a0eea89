"""Where hits are counted: the port, and its twin in memory."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import field
from enum import Enum
from typing import Protocol

from ratelimit import window
from ratelimit.window import Bucket, Count
from runtime.clock import Clock
from runtime.values import value


class CounterUnavailable(Exception):
    """The counters can't be read now."""


class Adds(Enum):
    """When an admitted charge is written."""

    NEVER = 0
    WITH_ROOM = 1
    ALWAYS = 2


class Mode(Enum):
    """(when it adds, whether a lack of room denies the request)."""

    ENFORCE = (Adds.WITH_ROOM, True)
    SHADOW = (Adds.WITH_ROOM, False)
    LOOK = (Adds.NEVER, True)
    SHADOW_LOOK = (Adds.NEVER, False)
    SETTLE = (Adds.ALWAYS, False)

    def __init__(self, adds: Adds, denies: bool) -> None:  # noqa: FBT001 - as in the list
        self.adds = adds
        self.denies = denies
        #: The same as the script reads it.
        self.numbers = (adds.value, int(denies))


@value
class Charge:
    """`hits` on the counter `key`, which admits `limit` in any `window_ms`.

    `rule` names the rule to people; it is no part of what is counted.
    """

    key: str
    limit: int
    window_ms: int
    hits: int = 1
    mode: Mode = Mode.ENFORCE
    rule: str = field(default="", compare=False)

    def adds(self, retry_ms: int) -> bool:
        """Whether an admitted request writes it."""
        adds = self.mode.adds
        return adds is Adds.ALWAYS or (adds is Adds.WITH_ROOM and retry_ms == 0)


@value
class Outcome:
    """Whether all charges were admitted, and each counter's state, in their order."""

    admitted: bool
    counts: tuple[Count, ...]


class CounterStore(Protocol):
    """Counts hits in sliding windows."""

    async def charge(self, charges: Sequence[Charge]) -> Outcome:
        """Admit and count all charges, or none; a charge of 0 hits only looks.

        Raises:
            CounterUnavailable: it is not known whether they were counted.
        """


class MemoryCounterStore:
    """One process's own counters; the least recently used ones make room."""

    def __init__(self, clock: Clock, *, max_keys: int = 100_000) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._counters: OrderedDict[str, list[Bucket]] = OrderedDict()

    async def charge(self, charges: Sequence[Charge]) -> Outcome:
        now_ms = int(self._clock.now() * 1000)
        buckets = [
            window.live(self._counters.get(one.key, []), now_ms, one.window_ms)
            for one in charges
        ]
        retries = [
            window.retry_ms(held, now_ms, one.window_ms, limit=one.limit, hits=one.hits)
            for one, held in zip(charges, buckets, strict=True)
        ]
        admitted = not any(
            retry
            for one, retry in zip(charges, retries, strict=True)
            if one.mode.denies
        )
        if admitted:
            buckets = [
                self._add(one, held, now_ms) if one.adds(retry) else held
                for one, held, retry in zip(charges, buckets, retries, strict=True)
            ]
        return Outcome(
            admitted,
            tuple(
                window.describe(held, now_ms, one.window_ms, retry)
                for one, held, retry in zip(charges, buckets, retries, strict=True)
            ),
        )

    def __len__(self) -> int:
        return len(self._counters)

    def _add(self, charge: Charge, held: list[Bucket], now_ms: int) -> list[Bucket]:
        if charge.hits == 0:
            return held
        added = window.add(held, now_ms, charge.window_ms, charge.hits)
        self._counters[charge.key] = added
        self._counters.move_to_end(charge.key)
        while len(self._counters) > self._max_keys:
            self._counters.popitem(last=False)
        return added
