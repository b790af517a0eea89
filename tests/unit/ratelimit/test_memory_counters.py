"""The window that each process counts for itself, over long traces."""

import random
from collections import deque

import pytest

from ratelimit.store import Charge, MemoryCounterStore
from runtime.clock import FakeClock

WINDOW_MS = 60_000


def a_charge(limit: int = 3, hits: int = 1, key: str = "rl:{u:a}:role:60") -> Charge:
    return Charge(key, limit, WINDOW_MS, hits)


@pytest.mark.parametrize("seed", range(5))
async def test_no_window_ever_admits_more_than_the_limit(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - a trace, not a secret
    clock = FakeClock()
    store, limit = MemoryCounterStore(clock), 60
    admitted: deque[float] = deque()
    total = 0
    for _ in range(4000):
        clock.advance(rng.expovariate(6))
        if (await store.charge([a_charge(limit)])).admitted:
            total += 1
            admitted.append(clock.now())
        while admitted and admitted[0] <= clock.now() - WINDOW_MS / 1000:
            admitted.popleft()

        assert len(admitted) <= limit
    minutes = 4000 / 6 / 60
    assert total >= 0.95 * limit * minutes


async def test_waiting_exactly_as_told_is_always_enough() -> None:
    rng = random.Random(3)  # noqa: S311 - a trace, not a secret
    clock = FakeClock()
    store = MemoryCounterStore(clock)
    waits = 0
    for _ in range(2000):
        clock.advance(rng.expovariate(20))
        one = a_charge(10, rng.randrange(1, 4))
        outcome = await store.charge([one])
        if not outcome.admitted:
            waits += 1
            clock.advance(outcome.counts[0].retry_ms / 1000)
            assert (await store.charge([one])).admitted
    assert waits > 10


async def test_a_clock_that_steps_back_admits_nothing_extra() -> None:
    clock = FakeClock()
    store = MemoryCounterStore(clock)
    for _ in range(3):
        await store.charge([a_charge()])
    clock.advance(-30)

    assert not (await store.charge([a_charge()])).admitted


async def test_memory_holds_no_more_counters_than_it_may() -> None:
    store = MemoryCounterStore(FakeClock(), max_keys=10)
    for number in range(100):
        await store.charge([a_charge(key=f"k{number}")])

    assert len(store) == 10
