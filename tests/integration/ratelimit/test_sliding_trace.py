"""Ten simulated minutes against the script in Valkey, by a clock of the test's own."""

import asyncio
import random
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from redis.asyncio import Redis

from ratelimit.store import Charge, CounterStore, MemoryCounterStore, Mode, Outcome
from ratelimit.store_redis import _SCRIPT, RedisCounterStore
from runtime.clock import FakeClock
from runtime.contracts.counters import counter_script
from runtime.metrics import Metrics
from runtime.redis import Script

CLOCK_KEY = "clock"
TEN_MINUTES_S = 600.0
MINUTE_MS = 60_000


@dataclass
class Simulated:
    """A store whose time is `clock`, the server's too."""

    store: CounterStore
    clock: FakeClock
    client: Redis

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.client.set(CLOCK_KEY, int(self.clock.now() * 1000))


@pytest.fixture
async def in_redis(redis_client: Redis) -> AsyncIterator[Simulated]:
    clock = FakeClock()
    store = RedisCounterStore(redis_client, Metrics(), deadline_s=2.0)
    text = counter_script(_SCRIPT)
    simulated_text = text.replace(
        "call('TIME')", f"{{0, call('GET', '{CLOCK_KEY}') * 1000}}"
    )
    assert simulated_text != text
    store._script = Script(simulated_text)
    yield Simulated(store, clock, redis_client)
    await store.aclose()


@pytest.fixture(params=["memory", "redis"])
def simulated(request: pytest.FixtureRequest, in_redis: Simulated) -> Simulated:
    if request.param == "redis":
        return in_redis
    return replace(in_redis, store=MemoryCounterStore(in_redis.clock))


class Windows:
    """Everything that was admitted, by counter."""

    def __init__(self) -> None:
        self._hits: dict[str, list[tuple[float, int]]] = defaultdict(list)

    def add(self, one: Charge, now: float) -> None:
        self._hits[one.key].append((now, one.hits))

    def used(self, one: Charge, now: float) -> int:
        """Hits of the window that ends now."""
        since = now - one.window_ms / 1000
        return sum(hits for at, hits in self._hits[one.key] if at > since)

    def total(self, key: str) -> int:
        return sum(hits for _, hits in self._hits[key])


async def test_no_window_exceeds_its_limit_and_the_allowance_is_usable(
    simulated: Simulated,
) -> None:
    """A caller who always wants more, in bursts and pauses, for ten minutes."""
    rng = random.Random(11)  # noqa: S311 - a trace, not a secret
    one = Charge("rl:{u:a}:role:60", 60, MINUTE_MS)
    seen, denied = Windows(), 0
    end = simulated.clock.now() + TEN_MINUTES_S
    while simulated.clock.now() < end:
        await simulated.advance(rng.choice((0.001, 0.01, 0.2, 0.5, 1.5)))
        outcome = await simulated.store.charge([one])
        denied += not outcome.admitted
        if outcome.admitted:
            seen.add(one, simulated.clock.now())
        assert seen.used(one, simulated.clock.now()) <= one.limit

    assert denied > 100
    assert seen.total(one.key) >= 0.95 * 60 * 10


async def test_several_limits_and_costs_hold_at_once(simulated: Simulated) -> None:
    rng = random.Random(12)  # noqa: S311 - a trace, not a secret
    minute = Charge("rl:{u:b}:role:60", 60, MINUTE_MS)
    second = Charge("rl:{u:b}:route:x:1", 4, 1000)
    hour = Charge("rl:{u:b}:route:x:3600", 400, 3_600_000)
    seen = Windows()
    end = simulated.clock.now() + TEN_MINUTES_S
    while simulated.clock.now() < end:
        await simulated.advance(rng.expovariate(3))
        cost = rng.choice((1, 1, 1, 2, 3))
        charges = [replace(one, hits=cost) for one in (minute, second, hour)]
        outcome = await simulated.store.charge(charges)
        now = simulated.clock.now()
        for charge in charges:
            if outcome.admitted:
                seen.add(charge, now)
            assert seen.used(charge, now) <= charge.limit

    assert seen.total(minute.key) == seen.total(hour.key) >= 0.95 * 400


async def test_a_client_that_waits_as_told_always_succeeds(
    simulated: Simulated,
) -> None:
    rng = random.Random(13)  # noqa: S311 - a trace, not a secret
    limits = (
        Charge("rl:{u:c}:role:60", 20, MINUTE_MS),
        Charge("rl:{u:c}:route:x:1", 3, 1000),
    )
    waits = 0
    for _ in range(600):
        await simulated.advance(rng.expovariate(5))
        charges = [replace(one, hits=rng.randrange(1, 3)) for one in limits]
        outcome = await simulated.store.charge(charges)
        if not outcome.admitted:
            waits += 1
            wait_ms = max(count.retry_ms for count in outcome.counts)
            await simulated.advance(-(-wait_ms // 1000))
            assert (await simulated.store.charge(charges)).admitted
    assert waits > 20


async def test_insisting_does_not_prolong_the_block(simulated: Simulated) -> None:
    one = Charge("rl:{u:d}:role:60", 1, MINUTE_MS)
    await simulated.advance(0.0)
    await simulated.store.charge([one])
    promised = (await simulated.store.charge([one])).counts[0].retry_ms
    for _ in range(49):
        await simulated.advance(promised / 1000 / 50)
        assert not (await simulated.store.charge([one])).admitted
    await simulated.advance(promised / 1000 / 50 + 0.05)

    assert (await simulated.store.charge([one])).admitted


#: Steps of the clock: within a part of a minute, a few parts, about a whole window of
#: each length, and back.
STEPS_S = (0.0, 0.0, 0.01, 0.3, 1.0, 4.0, 20.0, 61.0, 300.0, 3600.0, -2.0, -70.0)
#: Hits that need one to eight bytes, and are exact as a sum of many.
HITS = (0, 1, 1, 1, 2, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**40 + 1)


def a_charge(rng: random.Random) -> Charge:
    """Of few counters, so that the same ones are asked for in every way."""
    per_s = rng.choice((60, 3600))
    key = f"rl:{{u:e}}:{rng.randrange(3)}:{per_s}"
    # Small ones for long, so that entries are also those of a counter grown wide.
    hits = rng.choice(HITS[: rng.choice((5, 5, 9, len(HITS)))])
    limit = rng.choice((3, 40, 1000, 10**5, 2**33, 2**44))
    return Charge(key, limit, per_s * 1000, hits, rng.choice([*Mode]))


@pytest.mark.parametrize("seed", range(4))
async def test_the_script_gives_the_answers_of_the_arithmetic_on_any_history(
    in_redis: Simulated, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311 - a trace, not a secret
    memory = MemoryCounterStore(in_redis.clock)
    for _ in range(1500):
        await in_redis.advance(rng.choice(STEPS_S[: rng.choice((5, 6, 6, 12))]))
        charges = {one.key: one for one in (a_charge(rng) for _ in range(3))}
        asked = [*charges.values()][: rng.choice((1, 1, 3))]

        assert await in_redis.store.charge(asked) == await memory.charge(asked)


async def test_a_user_who_is_active_takes_at_most_300_bytes_of_redis(
    in_redis: Simulated,
) -> None:
    """UUIDs as names, a hit in every second of the minute: the worst at 60 a minute."""
    keys = [f"rl:{{u:{uuid.uuid4()}}}:role:60" for _ in range(400)]
    outcomes: list[Outcome] = []
    for _ in range(60):
        await in_redis.advance(1.0)
        charges = [Charge(key, 60, MINUTE_MS) for key in keys]
        outcomes = await asyncio.gather(*(in_redis.store.charge([c]) for c in charges))
        assert all(one.admitted for one in outcomes)
    # Of the whole server's memory a few hundred users are too few to tell.
    sizes = [await in_redis.client.memory_usage(key, samples=0) for key in keys]

    assert {one.counts[0].used for one in outcomes} == {60}
    assert sum(size or 0 for size in sizes) / len(keys) <= 300
