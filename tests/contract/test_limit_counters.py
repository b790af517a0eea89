"""What `ratelimit` counts is what `control` tells: one promise of two services."""

import pytest
from redis.asyncio import Redis

from control.counters import Counted, CountersUnavailable, Limit, limits_of
from control.counters_redis import RedisCounters
from control.documents import ratelimit_document
from control.model import GatewayConfig
from control.parse import from_document
from ratelimit.callers import Caller
from ratelimit.limiter import Limited, Limiter, OnRedisDown
from ratelimit.store import MemoryCounterStore
from ratelimit.store_redis import RedisCounterStore
from runtime import redis as runtime_redis
from runtime.clock import SystemClock
from runtime.metrics import Metrics

USERS = ["alice", "ä b/c:{x}", "long" * 40]
CONFIG: GatewayConfig = from_document(
    {
        "version": 1,
        "services": {"core": {"instances": ["127.0.0.1:1"]}},
        "limits": {
            "roles": {
                "user": [
                    {"requests": 9, "per": "minute"},
                    {"tokens": 1000, "per": "hour"},
                ],
                "guest": {"requests": 1, "per": "minute"},
            }
        },
        "routes": [
            {
                "id": "ai",
                "prefix": "/ai",
                "service": "core",
                "ai": True,
                "rate_limit": [
                    "role",
                    {"requests": 5, "per": "second"},
                    {"tokens": 300, "per": "day"},
                    {"requests": 70, "per": "day", "scope": "route"},
                    {"requests": 80, "per": "day", "shadow": True},
                ],
            }
        ],
    }
)


def named(limits: list[Limit] | None) -> list[tuple[str | None, str, int]]:
    return [(one.route, one.unit, one.amount) for one in limits or ()]


@pytest.mark.parametrize("user", USERS)
async def test_the_counters_are_read_as_they_were_counted(
    redis_client: Redis, user: str
) -> None:
    metrics = Metrics()
    store = RedisCounterStore(redis_client, metrics, deadline_s=2.0)
    limiter = Limiter(
        store=store,
        fallback=MemoryCounterStore(SystemClock()),
        on_redis_down=OnRedisDown.DENY,
        metrics=metrics,
    )
    limiter.use(ratelimit_document(CONFIG))
    caller = Caller("user", user, "192.0.2.1")
    for _ in range(3):
        decided = await limiter.decide(caller, "ai", tokens=True)
        assert isinstance(decided, Limited)
        assert decided.admitted
    await limiter.settle(caller, "ai", 40)
    await store.aclose()
    limits = limits_of(CONFIG, "user", user) or []
    counters = RedisCounters(redis_client)

    before = await counters.read(limits)
    after = await counters.read(limits)

    assert named(limits) == [
        (None, "requests", 9),
        (None, "tokens", 1000),
        ("ai", "requests", 5),
        ("ai", "tokens", 300),
    ]
    assert [one.used for one in before] == [3, 40, 3, 40]
    assert [one.used for one in after] == [3, 40, 3, 40]
    assert 59_000 < before[0].reset_ms <= 61_000
    assert await counters.read(limits_of(CONFIG, "user", "nobody") or []) == [
        Counted(0, 0)
    ] * len(limits)


async def test_a_counter_as_earlier_versions_stored_it_is_read(
    redis_client: Redis,
) -> None:
    (limit, *_) = limits_of(CONFIG, "user", "alice") or []
    seconds, _ = await redis_client.time()
    script = "redis.call('SET', KEYS[1], cmsgpack.pack({ARGV[1] - 61, 4, 9, 7, 52, 1}))"
    # A minute's parts are seconds: the first is over, the second is 52 s old.
    await redis_client.eval(script, 1, limit.key, seconds)
    (counted,) = await RedisCounters(redis_client).read([limit])

    assert counted.used == 8
    assert 0 < counted.reset_ms <= 9_000


async def test_a_redis_that_does_not_answer_is_said_to_be_away() -> None:
    client = runtime_redis.connect("redis://127.0.0.1:1/0", timeout_s=0.2)

    with pytest.raises(CountersUnavailable):
        await RedisCounters(client).read(limits_of(CONFIG, "user", "alice") or [])

    await client.aclose()
