"""The same limits over a real cluster of three masters."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from ratelimit.callers import Caller
from ratelimit.limiter import Limited, Limiter, OnRedisDown
from ratelimit.rules import RouteRules, Rule, Rules, Scope
from ratelimit.store import MemoryCounterStore
from ratelimit.store_redis import RedisCounterStore
from runtime import config_channel
from runtime import redis as runtime_redis
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from runtime.redis import node_name
from tests.integration.ratelimit.servers import Server, a_cluster

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLOCK = SystemClock()
DEADLINE_S = 5.0


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def cluster(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[list[Server]]:
    async with a_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


def connect(cluster: list[Server], timeout_s: float) -> Redis:
    hosts = ",".join(f"127.0.0.1:{one.port}" for one in cluster)
    return runtime_redis.connect(f"redis+cluster://{hosts}", timeout_s=timeout_s)


@pytest_asyncio.fixture(loop_scope="module")
async def client(cluster: list[Server]) -> AsyncIterator[Redis]:
    client = connect(cluster, 2.0)
    await client.flushall()
    yield client
    await client.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def store(client: Redis) -> AsyncIterator[RedisCounterStore]:
    # These are not about being late.
    store = RedisCounterStore(client, Metrics(), deadline_s=2.0)
    await store.warm_up()
    yield store
    await store.aclose()


def a_limiter(
    store: RedisCounterStore, metrics: Metrics, rules: Rules | None = None
) -> Limiter:
    limiter = Limiter(
        store=store,
        fallback=MemoryCounterStore(CLOCK),
        on_redis_down=OnRedisDown.LOCAL,
        metrics=metrics,
    )
    if rules is not None:
        limiter.put(rules)
    return limiter


async def ask(limiter: Limiter, user: str, route: str = "users") -> Limited:
    verdict = await limiter.decide(Caller("user", user, ""), route)
    assert isinstance(verdict, Limited)
    return verdict


def failures(metrics: Metrics) -> float:
    return metrics.value("hubgate_ratelimit_store_failures_total", action="local")


async def test_callers_on_every_node_get_exactly_their_limit(
    client: Redis, store: RedisCounterStore
) -> None:
    metrics = Metrics()
    limiter = a_limiter(store, metrics, Rules({"guest": None, "user": (Rule(5, 60),)}))
    users = [f"u-{number}" for number in range(12)]
    nodes = {node_name(client, f"rl:{{u:{user}}}:role:60") for user in users}
    for user in users:
        verdicts = await asyncio.gather(*(ask(limiter, user) for _ in range(20)))

        assert sum(one.admitted for one in verdicts) == 5
    assert len(nodes) == 3
    assert failures(metrics) == 0


async def test_several_rules_of_a_caller_are_one_decision_on_one_node(
    store: RedisCounterStore,
) -> None:
    metrics = Metrics()
    rules = Rules(
        {"guest": None, "user": (Rule(5, 60), Rule(9, 3600))},
        {"jobs": RouteRules(("role", Rule(2, 60)))},
    )
    limiter = a_limiter(store, metrics, rules)
    on_route = [await ask(limiter, "u-many", "jobs") for _ in range(4)]
    elsewhere = [await ask(limiter, "u-many") for _ in range(4)]

    assert [one.admitted for one in on_route] == [True, True, False, False]
    assert [one.admitted for one in elsewhere] == [True, True, True, False]
    assert failures(metrics) == 0


async def test_a_limit_of_all_callers_holds_over_nodes_and_costs_the_denied_nothing(
    store: RedisCounterStore,
) -> None:
    metrics = Metrics()
    rules = Rules(
        {"guest": None, "user": (Rule(5, 60),)},
        {"jobs": RouteRules(("role", Rule(7, 60, scope=Scope.ROUTE)))},
    )
    limiter = a_limiter(store, metrics, rules)
    users = [f"s-{number}" for number in range(10)]
    verdicts = [await ask(limiter, user, "jobs") for user in users]
    denied = [
        user for user, one in zip(users, verdicts, strict=True) if not one.admitted
    ]
    elsewhere = [await ask(limiter, user) for user in denied]

    assert sum(one.admitted for one in verdicts) == 7
    assert {one.remaining for one in elsewhere} == {4}


async def test_a_limit_of_all_callers_is_never_exceeded_at_once(
    store: RedisCounterStore,
) -> None:
    rules = Rules(
        {"guest": None, "user": (Rule(5, 60),)},
        {"rush": RouteRules(("role", Rule(7, 60, scope=Scope.ROUTE)))},
    )
    limiter = a_limiter(store, Metrics(), rules)
    verdicts = await asyncio.gather(
        *(ask(limiter, f"r-{number}", "rush") for number in range(60))
    )

    assert sum(one.admitted for one in verdicts) == 7


@pytest.mark.alone
async def test_rules_reach_a_process_through_a_cluster(client: Redis) -> None:
    found: asyncio.Queue[object] = asyncio.Queue()
    stop = asyncio.Event()
    watch = config_channel.watch(client, "ratelimit", found.put_nowait, stop)
    task = asyncio.create_task(watch)
    await config_channel.publish(client, "ratelimit", {"n": 1})
    async with asyncio.timeout(DEADLINE_S):
        first = await found.get()
    await config_channel.publish(client, "ratelimit", {"n": 2})
    async with asyncio.timeout(1):
        second = await found.get()
    stop.set()
    await task

    assert (first, second) == ({"n": 1}, {"n": 2})


@pytest.mark.alone
async def test_one_lost_master_takes_only_its_own_callers(
    cluster: list[Server],
) -> None:
    client, metrics = connect(cluster, 0.1), Metrics()
    store = RedisCounterStore(client, metrics)
    await store.warm_up()
    limiter = a_limiter(store, metrics)
    victim = cluster[1]
    theirs: list[str] = []
    others: list[str] = []
    for number in range(30):
        user = f"m-{number}"
        name = node_name(client, f"rl:{{u:{user}}}:role:60")
        (theirs if name.endswith(f":{victim.port}") else others).append(user)
    for user in (*theirs, *others):
        await ask(limiter, user)
    before = failures(metrics)
    victim.signal(signal.SIGSTOP)
    verdicts = await asyncio.gather(*(ask(limiter, user) for user in theirs))
    failed = failures(metrics) - before
    await asyncio.gather(*(ask(limiter, user) for user in others))
    failed_after = failures(metrics) - before
    victim.signal(signal.SIGCONT)
    async with asyncio.timeout(DEADLINE_S):
        while store.is_down:
            await asyncio.sleep(0.01)
    await asyncio.gather(*(ask(limiter, user) for user in theirs))
    await store.aclose()
    await client.aclose()

    assert theirs
    assert others
    assert all(one.admitted for one in verdicts)
    assert failed == failed_after == failures(metrics) - before == len(theirs)
