"""Kept answers over a real Valkey: fast, never late, and bounded when it is away."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from local.engines import running_valkey
from runtime import redis as runtime_redis
from runtime.clock import SystemClock
from runtime.contracts.redis_keys import blacklist_token_key, blacklist_user_key
from runtime.identity.blacklist import BlacklistUnavailable
from runtime.identity.blacklist_tracked import TrackedBlacklist
from runtime.identity.tokens import Claims
from runtime.identity.verdicts import Verdicts
from runtime.metrics import Metrics
from tests.conftest import in_background
from tests.integration.ratelimit.servers import a_cluster

pytestmark = [pytest.mark.integration, pytest.mark.alone]

CLAIMS = Claims("u-1", "user", exp=200.0, iat=100.0, jti="t-1")
PROMISE_S = 0.25
DEADLINE_S = 5.0


class ShiftedClock(SystemClock):
    """The machine's clock, and what was added to it."""

    shift = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.shift


@dataclass
class Bench:
    """A blacklist that tracks, and another client of the same Redis."""

    blacklist: TrackedBlacklist
    metrics: Metrics
    clock: ShiftedClock
    others: Redis

    def answered(self, source: str) -> float:
        return self.metrics.value("hubgate_blacklist_answers_total", source=source)

    async def tracking(self, wanted: int = 1) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.metrics.value("hubgate_blacklist_tracking") != wanted:
                await asyncio.sleep(0.005)

    async def lookups(self) -> int:
        stats = await self.others.info("commandstats")
        return int(stats.get("cmdstat_exists", {}).get("calls", 0))

    async def until(self, *, revoked: bool) -> float:
        """How long it took."""
        started = time.perf_counter()
        async with asyncio.timeout(DEADLINE_S):
            while await self.blacklist.is_revoked(CLAIMS) is not revoked:
                await asyncio.sleep(0.001)
        return time.perf_counter() - started


@asynccontextmanager
async def a_bench(url: str) -> AsyncIterator[Bench]:
    client = runtime_redis.connect(url, timeout_s=0.1)
    others = runtime_redis.connect(url, timeout_s=2.0)
    clock, metrics, stop = ShiftedClock(), Metrics(), asyncio.Event()
    verdicts = Verdicts(clock, stale_s=30)
    blacklist = TrackedBlacklist(client, verdicts, clock, metrics)
    running = asyncio.create_task(blacklist.run(stop))
    bench = Bench(blacklist, metrics, clock, others)
    try:
        await bench.tracking()
        yield bench
    finally:
        stop.set()
        await running
        await client.aclose()
        await others.aclose()


@pytest.fixture
async def bench(redis_url: str, redis_client: Redis) -> AsyncIterator[Bench]:
    assert await redis_client.dbsize() == 0
    async with a_bench(redis_url) as bench:
        yield bench


async def test_a_hot_token_costs_no_round_trip(bench: Bench) -> None:
    await bench.blacklist.is_revoked(CLAIMS)
    before = await bench.lookups()
    for _ in range(500):
        assert not await bench.blacklist.is_revoked(CLAIMS)

    assert await bench.lookups() == before
    assert bench.answered("cache") >= 500


@pytest.mark.parametrize(
    ("key", "value"),
    [(blacklist_token_key("t-1"), "1"), (blacklist_user_key("u-1"), "150")],
    ids=["token", "user"],
)
async def test_a_revocation_by_anyone_acts_within_the_promise(
    bench: Bench, key: str, value: str
) -> None:
    assert not await bench.blacklist.is_revoked(CLAIMS)
    await bench.others.set(key, value)
    revoked = await bench.until(revoked=True)
    await bench.others.delete(key)
    released = await bench.until(revoked=False)

    assert max(revoked, released) < PROMISE_S


async def test_a_revocation_that_runs_out_or_is_flushed_ends(bench: Bench) -> None:
    for ending in ("expiry", "flush"):
        await bench.others.set(blacklist_token_key("t-1"), 1)
        await bench.until(revoked=True)
        if ending == "expiry":
            await bench.others.pexpire(blacklist_token_key("t-1"), 100)
        else:
            await bench.others.flushall()

        await bench.until(revoked=False)


async def test_no_request_that_started_after_a_revocation_passes(bench: Bench) -> None:
    passed: list[float] = []
    is_over = asyncio.Event()

    async def caller() -> None:
        while not is_over.is_set():
            started = time.perf_counter()
            if not await bench.blacklist.is_revoked(CLAIMS):
                passed.append(started)
            await asyncio.sleep(0)

    callers = [asyncio.create_task(caller()) for _ in range(200)]
    async with asyncio.timeout(PROMISE_S + 5):
        while len(passed) <= 200:
            await asyncio.sleep(0)
    for _ in range(5):
        await bench.others.set(blacklist_token_key("t-1"), 1)
        written = time.perf_counter()
        await asyncio.sleep(PROMISE_S + 0.1)
        late = [at for at in passed if at > written + PROMISE_S]
        await bench.others.delete(blacklist_token_key("t-1"))
        await bench.until(revoked=False)
        assert not late
    is_over.set()
    await asyncio.gather(*callers)


async def test_a_lost_tracking_connection_ends_every_answer(bench: Bench) -> None:
    await bench.blacklist.is_revoked(CLAIMS)
    before = await bench.lookups()
    (tracker,) = [
        one["id"]
        for one in await bench.others.client_list()
        if "t" in one["flags"] and "B" in one["flags"]
    ]
    await bench.others.client_kill_filter(_id=tracker)
    await bench.tracking(0)
    await bench.blacklist.is_revoked(CLAIMS)
    asked = await bench.lookups() - before
    await bench.tracking(1)
    await bench.blacklist.is_revoked(CLAIMS)

    assert asked == 1
    assert await bench.lookups() - before == 2
    assert bench.answered("stale") == 0


@pytest.fixture
def own_redis_url(tmp_path: Path) -> Iterator[str]:
    """A Valkey that a test may stop."""
    with in_background(running_valkey(tmp_path / "own")) as url:
        yield url


async def test_a_silent_redis_leaves_kept_answers_for_a_while_and_then_none(
    own_redis_url: str,
) -> None:
    async with a_bench(own_redis_url) as bench:
        other = Claims("u-2", "user", exp=200.0, iat=100.0, jti="t-2")
        await bench.others.set(blacklist_token_key("t-2"), 1)
        await bench.blacklist.is_revoked(CLAIMS)
        await bench.blacklist.is_revoked(other)
        pid = int((await bench.others.info("server"))["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            await bench.tracking(0)
            kept = await bench.blacklist.is_revoked(CLAIMS)
            started = time.perf_counter()
            for _ in range(100):
                await bench.blacklist.is_revoked(other)
            took = time.perf_counter() - started
            kept_revoked = await bench.blacklist.is_revoked(other)
            bench.clock.shift += 31
            with pytest.raises(BlacklistUnavailable):
                await bench.blacklist.is_revoked(CLAIMS)
        finally:
            os.kill(pid, signal.SIGCONT)
        await bench.tracking(1)
        await bench.until(revoked=False)

    assert (kept, kept_revoked) == (False, True)
    assert bench.answered("stale") >= 2
    # Nobody waits for a Redis that is known to be away, but for a probe.
    assert took < 0.5


async def test_a_key_nobody_asked_about_is_not_passed_while_redis_is_away(
    own_redis_url: str,
) -> None:
    async with a_bench(own_redis_url) as bench:
        pid = int((await bench.others.info("server"))["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(BlacklistUnavailable):
                await bench.blacklist.is_revoked(CLAIMS)
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_a_cluster_is_asked_for_every_decision(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as servers:
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in servers)
        client = runtime_redis.connect(f"redis+cluster://{hosts}", timeout_s=2.0)
        clock, metrics, stop = SystemClock(), Metrics(), asyncio.Event()
        verdicts = Verdicts(clock, stale_s=30)
        blacklist = TrackedBlacklist(client, verdicts, clock, metrics)
        running = asyncio.create_task(blacklist.run(stop))
        before = await blacklist.is_revoked(CLAIMS)
        await client.set(blacklist_token_key("t-1"), 1)
        after = await blacklist.is_revoked(CLAIMS)
        stop.set()
        await running
        await client.aclose()

    assert (before, after) == (False, True)
    assert metrics.value("hubgate_blacklist_answers_total", source="redis") == 2
