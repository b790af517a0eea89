"""One behaviour of the sliding window, in memory and in Redis."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from ratelimit.store import (
    Charge,
    CounterStore,
    CounterUnavailable,
    MemoryCounterStore,
    Mode,
    Outcome,
)
from ratelimit.store_redis import RedisCounterStore
from ratelimit.window import SUB_WINDOWS, part_ms
from runtime.clock import SystemClock
from runtime.metrics import Metrics

WINDOW_MS = 60_000


@pytest.fixture
async def in_redis(redis_client: Redis) -> AsyncIterator[RedisCounterStore]:
    counters = RedisCounterStore(redis_client, Metrics(), deadline_s=2.0)
    yield counters
    await counters.aclose()


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest, in_redis: RedisCounterStore) -> CounterStore:
    return MemoryCounterStore(SystemClock()) if request.param == "memory" else in_redis


def charge(key: str = "rl:{u:a}:role:60", limit: int = 3, hits: int = 1) -> Charge:
    return Charge(key, limit, WINDOW_MS, hits)


async def store_as_earlier_versions(
    client: Redis, one: Charge, parts: Sequence[tuple[int, int]]
) -> None:
    """`parts`: how many parts ago, and hits in that one."""
    seconds, _ = await client.time()
    flat, before = [], 0
    for ago, hits in parts:
        index = seconds * 1000 // part_ms(one.window_ms) - ago
        flat += [index - before, hits]
        before = index
    script = "redis.call('SET', KEYS[1], cmsgpack.pack(cjson.decode(ARGV[1])))"
    await client.eval(script, 1, one.key, json.dumps(flat))


async def test_the_limit_is_admitted_and_the_next_is_not(store: CounterStore) -> None:
    outcomes = [await store.charge([charge()]) for _ in range(4)]

    assert [one.admitted for one in outcomes] == [True, True, True, False]
    assert [one.counts[0].used for one in outcomes] == [1, 2, 3, 3]
    denied = outcomes[-1].counts[0]
    assert WINDOW_MS - 1000 <= denied.retry_ms <= WINDOW_MS + 1000
    assert [one.counts[0].retry_ms for one in outcomes[:3]] == [0, 0, 0]


async def test_denied_requests_are_not_counted(store: CounterStore) -> None:
    for _ in range(20):
        await store.charge([charge(limit=1)])

    assert (await store.charge([charge(limit=2)])).admitted


async def test_several_counters_are_charged_together_or_not_at_all(
    store: CounterStore,
) -> None:
    narrow, wide = charge("rl:{u:b}:x:60", 1), charge("rl:{u:b}:y:60", 10)
    first = await store.charge([narrow, wide])
    second = await store.charge([narrow, wide])
    look = await store.charge([charge("rl:{u:b}:y:60", 10, hits=0)])

    assert (first.admitted, second.admitted) == (True, False)
    assert [count.used for count in second.counts] == [1, 1]
    assert [count.retry_ms > 0 for count in second.counts] == [True, False]
    assert look.counts[0].used == 1


async def test_a_shadow_counts_what_it_would_admit_and_denies_nothing(
    store: CounterStore,
) -> None:
    shadow = replace(charge("rl:{u:h}:x:60", 1), mode=Mode.SHADOW)
    outcomes = [await store.charge([shadow]) for _ in range(2)]

    assert [one.admitted for one in outcomes] == [True, True]
    assert [one.counts[0].used for one in outcomes] == [1, 1]
    assert [one.counts[0].retry_ms > 0 for one in outcomes] == [False, True]


async def test_a_shadow_does_not_count_what_another_rule_denies(
    store: CounterStore,
) -> None:
    shadow = replace(charge("rl:{u:i}:x:60", 9), mode=Mode.SHADOW)
    both = [charge("rl:{u:i}:y:60", 1), shadow]
    await store.charge(both)
    outcome = await store.charge(both)

    assert not outcome.admitted
    assert outcome.counts[1].used == 1


async def test_a_budget_is_looked_at_and_charged_beyond_its_end(
    store: CounterStore,
) -> None:
    budget = charge("rl:{u:j}:tokens:60", 10)
    look, settle = replace(budget, mode=Mode.LOOK), replace(budget, mode=Mode.SETTLE)
    before = await store.charge([look])
    after = await store.charge([replace(settle, hits=9)])
    last = await store.charge([look])
    await store.charge([replace(settle, hits=25)])
    spent = await store.charge([look])

    assert [one.counts[0].used for one in (before, after, last)] == [0, 9, 9]
    assert (before.admitted, last.admitted, spent.admitted) == (True, True, False)
    assert spent.counts[0].used == 34
    assert spent.counts[0].retry_ms > 0


async def test_a_request_larger_than_the_limit_never_fits(store: CounterStore) -> None:
    outcome = await store.charge([charge(limit=3, hits=4)])

    assert not outcome.admitted
    assert outcome.counts[0].used == 0
    assert outcome.counts[0].retry_ms == WINDOW_MS


async def test_counters_of_different_keys_are_apart(store: CounterStore) -> None:
    await store.charge([charge("rl:{u:c}:role:60", 1)])

    assert (await store.charge([charge("rl:{u:d}:role:60", 1)])).admitted


async def test_redis_forgets_a_counter_after_its_window(
    redis_client: Redis, in_redis: RedisCounterStore
) -> None:
    await in_redis.charge([charge("rl:{u:e}:role:60")])

    left_ms = await redis_client.pttl("rl:{u:e}:role:60")
    assert WINDOW_MS <= left_ms <= WINDOW_MS * (SUB_WINDOWS + 1) // SUB_WINDOWS


async def test_a_counter_expires_also_after_several_hits_in_one_part(
    redis_client: Redis, in_redis: RedisCounterStore
) -> None:
    one = Charge("rl:{u:r}:role:3600", 9, 3_600_000)
    for _ in range(3):
        await in_redis.charge([one])

    left_ms = await redis_client.pttl(one.key)
    assert left_ms > 3_590_000


async def test_a_counter_as_earlier_versions_stored_it_counts_on(
    redis_client: Redis, in_redis: RedisCounterStore
) -> None:
    one = Charge("rl:{u:s}:role:3600", 2**41, 3_600_000)
    over, live = (62, 7), [(58, 2**40), (57, 300), *((ago, 1) for ago in range(50))]
    await store_as_earlier_versions(redis_client, one, [over, *sorted(live)[::-1]])
    looked = await in_redis.charge([replace(one, mode=Mode.LOOK)])
    first = await in_redis.charge([one])
    # In one run, so at one moment: between two a part may end.
    asked = (one, replace(one, limit=2**40), replace(one, hits=one.limit))
    second, denied, all_of_it = await asyncio.gather(
        *(in_redis.charge([each]) for each in asked)
    )

    used = 2**40 + 350
    assert [outcome.counts[0].used for outcome in (looked, first, second, denied)] == [
        *(used, used + 1, used + 2, used + 2)
    ]
    assert not denied.admitted
    assert 0 < denied.counts[0].retry_ms <= 3 * 60_000
    # Not before the newest part has left.
    assert one.window_ms < all_of_it.counts[0].retry_ms <= one.window_ms + 60_000


async def test_the_script_survives_a_flush(
    redis_client: Redis, in_redis: RedisCounterStore
) -> None:
    await in_redis.charge([charge("rl:{u:f}:role:60")])
    await redis_client.script_flush()

    assert (await in_redis.charge([charge("rl:{u:f}:role:60")])).counts[0].used == 2


async def test_a_key_that_holds_something_else_is_an_error_and_not_a_pass(
    redis_client: Redis, in_redis: RedisCounterStore
) -> None:
    await redis_client.set("rl:{u:g}:role:60", b"\xff\xff nonsense")

    with pytest.raises(Exception, match="Error"):
        await in_redis.charge([charge("rl:{u:g}:role:60")])


@pytest.mark.parametrize("spoil", ["text", "list"])
async def test_a_counter_that_is_spoilt_denies_nobody_who_asks_beside_it(
    redis_client: Redis, in_redis: RedisCounterStore, spoil: str
) -> None:
    keys = [f"rl:{{u:{name}}}:role:60" for name in "kmn"]
    if spoil == "text":
        await redis_client.set(keys[1], b"\xff\xff nonsense")
    else:
        await redis_client.lpush(keys[1], "of another type")
    asked = [[charge(key, 2), charge(f"{key}:more", 9)] for key in keys]
    first, spoilt, last = await asyncio.gather(
        *map(in_redis.charge, asked), return_exceptions=True
    )

    assert isinstance(spoilt, CounterUnavailable)
    assert not in_redis.is_down
    for one in (first, last):
        assert isinstance(one, Outcome)
        assert [count.used for count in one.counts] == [1, 1]
    assert await redis_client.get(f"{keys[1]}:more") is None


async def test_callers_of_one_run_are_counted_in_turn_even_on_one_counter(
    in_redis: RedisCounterStore,
) -> None:
    one, other = charge("rl:{u:p}:role:60", 5), charge("rl:{u:q}:role:60", 1, 7)
    asked = [[one], [other], [one, replace(one, key="rl:{u:p}:x:60")], [one]]
    outcomes = await asyncio.gather(*map(in_redis.charge, asked))

    assert [one.admitted for one in outcomes] == [True, False, True, True]
    assert [one.counts[0].used for one in outcomes] == [1, 0, 2, 3]


async def test_memory_and_redis_agree_on_the_same_history(
    in_redis: RedisCounterStore,
) -> None:
    """Redis' clock can't be set, so both see the same few milliseconds."""
    rng = random.Random(7)  # noqa: S311 - a trace, not a secret
    memory = MemoryCounterStore(SystemClock())
    for _ in range(300):
        key = f"rl:{{u:{rng.randrange(5)}}}:role:3600"
        one = Charge(key, rng.randrange(1, 40), 3_600_000, rng.randrange(4))
        ours, theirs = await memory.charge([one]), await in_redis.charge([one])

        assert (ours.admitted, ours.counts[0].used) == (
            theirs.admitted,
            theirs.counts[0].used,
        )
