"""Where hits are counted: the port, and its twin in memory."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ratelimit import window
from ratelimit.window import Bucket, Count
from runtime.clock import Clock


class CounterUnavailable(Exception):
    """The counters can't be read now."""


@dataclass(frozen=True, slots=True)
class Charge:
    """`hits` on the counter `key`, which admits `limit` in any `window_ms`."""

    key: str
    limit: int
    window_ms: int
    hits: int = 1


@dataclass(frozen=True, slots=True)
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
        admitted = not any(retries)
        if admitted:
            buckets = [
                self._add(one, held, now_ms)
                for one, held in zip(charges, buckets, strict=True)
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
