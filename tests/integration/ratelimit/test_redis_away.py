"""Redis away in every way: an answer soon, the stated limits, and back by itself."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from ratelimit.callers import Caller
from ratelimit.limiter import Limited, Limiter, OnRedisDown
from ratelimit.store import MemoryCounterStore
from ratelimit.store_redis import RedisCounterStore
from runtime import redis as runtime_redis
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from tests.integration.ratelimit.servers import Server, a_server

pytestmark = pytest.mark.alone

ANSWER_S = 0.05
RECOVERY_S = 5.0
TICK_S = 0.002
STARVED_S = 0.5
CLOCK = SystemClock()


@dataclass
class Bench:
    """A limiter of a process, over a server that may go away."""

    server: Server
    client: Redis
    store: RedisCounterStore
    limiter: Limiter
    metrics: Metrics
    slowest_s: float = 0.0
    #: How late this machine was in doing what was due: not Redis' fault.
    lag_s: float = 0.0
    asked: int = 0

    async def ask(self, user: str = "u-1", role: str = "user") -> Limited:
        began = CLOCK.monotonic()
        verdict = await self.limiter.decide(Caller(role, user, ""), "users")
        self.slowest_s = max(self.slowest_s, CLOCK.monotonic() - began)
        self.asked += 1
        assert isinstance(verdict, Limited)
        return verdict

    @property
    def is_in_time(self) -> bool:
        """A machine that is late itself is given the time of several tries."""
        return self.slowest_s < (ANSWER_S if self.lag_s < TICK_S else STARVED_S)

    async def tick(self) -> None:
        while True:
            due = CLOCK.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            self.lag_s = max(self.lag_s, CLOCK.monotonic() - due)

    def failures(self, action: str = "local") -> float:
        return self.metrics.value(
            "hubgate_ratelimit_store_failures_total", action=action
        )

    def outages(self, reason: str) -> float:
        return self.metrics.value("hubgate_ratelimit_outages_total", reason=reason)

    @property
    def is_down(self) -> bool:
        return self.metrics.value("hubgate_ratelimit_stores_down") == 1

    async def recovers(self) -> float:
        """How long until Redis decides again."""
        began = CLOCK.monotonic()
        async with asyncio.timeout(RECOVERY_S):
            while self.is_down:
                await asyncio.sleep(0.01)
        return CLOCK.monotonic() - began

    async def hits(self, user: str) -> int:
        """As another process sees them."""
        other = RedisCounterStore(self.client, Metrics())
        limiter = Limiter(
            store=other,
            fallback=MemoryCounterStore(CLOCK),
            on_redis_down=OnRedisDown.DENY,
            metrics=Metrics(),
        )
        verdict = await limiter.decide(Caller("user", user, ""), "users", 0)
        await other.aclose()
        assert isinstance(verdict, Limited)
        return verdict.limit - verdict.remaining


@asynccontextmanager
async def _a_bench(
    server: Server, on_redis_down: OnRedisDown = OnRedisDown.LOCAL
) -> AsyncIterator[Bench]:
    metrics = Metrics()
    client = runtime_redis.connect(server.url, timeout_s=0.1)
    store = RedisCounterStore(client, metrics)
    await store.warm_up()
    limiter = Limiter(
        store=store,
        fallback=MemoryCounterStore(CLOCK),
        on_redis_down=on_redis_down,
        metrics=metrics,
    )
    bench = Bench(server, client, store, limiter, metrics)
    ticking = asyncio.create_task(bench.tick())
    yield bench
    ticking.cancel()
    await store.aclose()
    await client.aclose()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with a_server(tmp_path / "valkey") as server, _a_bench(server) as bench:
        yield bench


async def _remaining(bench: Bench, count: int) -> list[int]:
    return [(await bench.ask()).remaining for _ in range(count)]


async def test_a_killed_redis_is_not_waited_for_and_used_again_when_it_is_back(
    bench: Bench,
) -> None:
    await _remaining(bench, 3)
    await bench.server.kill()
    local = await _remaining(bench, 5)
    assert local == [59, 58, 57, 56, 55]  # counted here, from the beginning
    assert bench.is_in_time
    assert bench.failures() == 5
    assert bench.outages("ConnectionError") == 1

    await bench.server.start()
    await bench.recovers()
    assert await _remaining(bench, 2) == [59, 58]
    assert bench.failures() == 5


async def test_a_stopped_redis_is_waited_for_once(bench: Bench) -> None:
    """SIGSTOP: connections stay open, and nobody answers."""
    await _remaining(bench, 3)
    bench.server.signal(signal.SIGSTOP)
    first = await asyncio.gather(*(bench.ask() for _ in range(20)))
    first_s, bench.slowest_s = bench.slowest_s, 0.0
    await _remaining(bench, 20)
    later_s, bench.slowest_s = bench.slowest_s - bench.lag_s, first_s
    bench.server.signal(signal.SIGCONT)
    await bench.recovers()

    assert all(one.admitted for one in first)
    assert bench.is_in_time
    assert later_s < 0.03  # the first of all would have waited longer
    assert bench.outages("TimeoutError") == 1
    # What was on its way when it stopped has been counted, with the three before.
    assert (await bench.ask()).limit == 60


async def test_answers_are_never_mixed_up_after_a_pause(bench: Bench) -> None:
    """An answer that comes too late belongs to nobody."""
    for number in range(5):
        bench.server.signal(signal.SIGSTOP)
        await asyncio.gather(*(bench.ask(f"slow-{number}-{i}") for i in range(5)))
        bench.server.signal(signal.SIGCONT)
        await bench.recovers()
        answers = await asyncio.gather(
            *(bench.ask(f"new-{number}-{i}") for i in range(5))
        )

        assert {one.remaining for one in answers} == {59}


async def test_a_read_only_redis_is_an_outage_until_it_writes_again(
    bench: Bench,
) -> None:
    await _remaining(bench, 2)
    admin = bench.server.client()
    await Server.command(admin, "REPLICAOF", "127.0.0.1", "1")
    local = await _remaining(bench, 3)
    await asyncio.sleep(0.3)  # a probe or two
    still_down = bench.is_down
    await Server.command(admin, "REPLICAOF", "NO", "ONE")
    await bench.recovers()
    await admin.aclose()

    assert local == [59, 58, 57]
    assert still_down
    assert bench.is_in_time
    assert bench.outages("ReadOnlyError") == 1
    assert await _remaining(bench, 1) == [57]


async def test_flushed_scripts_and_data_are_no_outage(bench: Bench) -> None:
    await _remaining(bench, 2)
    await bench.client.script_flush()
    assert await _remaining(bench, 1) == [57]
    await bench.client.flushall()
    assert await _remaining(bench, 1) == [59]
    assert bench.failures() == 0


async def test_a_restart_under_load_fails_no_request(bench: Bench) -> None:
    stop = asyncio.Event()

    async def caller(number: int) -> None:
        while not stop.is_set():
            await bench.ask(f"u-{number}")
            await asyncio.sleep(0.002)

    callers = [asyncio.create_task(caller(number)) for number in range(10)]
    await asyncio.sleep(0.1)
    await bench.server.kill()
    await asyncio.sleep(0.3)
    await bench.server.start()
    recovery_s = await bench.recovers()
    stop.set()
    await asyncio.gather(*callers)

    assert recovery_s < RECOVERY_S
    assert bench.is_in_time
    assert bench.asked > 100


async def test_requests_are_denied_meanwhile_when_so_set(tmp_path: Path) -> None:
    async with (
        a_server(tmp_path / "valkey") as server,
        _a_bench(server, OnRedisDown.DENY) as bench,
    ):
        assert (await bench.ask()).admitted
        await server.kill()
        denied = await bench.ask()
        await server.start()
        await bench.recovers()

        assert (denied.admitted, denied.retry_after_s) == (False, 1)
        assert bench.failures("deny") == 1
        assert (await bench.ask()).admitted


async def test_a_redis_that_was_never_there_is_found_when_it_comes(
    tmp_path: Path,
) -> None:
    async with a_server(tmp_path / "valkey") as server:
        await server.kill()
        async with _a_bench(server) as bench:
            assert (await bench.ask()).admitted
            assert bench.is_in_time
            await server.start()
            await bench.recovers()

            await bench.ask("u-9")
            assert await bench.hits("u-9") == 1
