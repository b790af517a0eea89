import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from control.xds.cache import Connection, Published, SnapshotCache
from control.xds.snapshot import ResourceType, Snapshot
from control.xds.subscription import Refusal, Request
from runtime.clock import FakeClock, SystemClock
from runtime.metrics import Metrics

CLUSTER, ROUTES = ResourceType.CLUSTER, ResourceType.ROUTES


def a_snapshot(routes: bytes = b"r1", *clusters: str) -> Snapshot:
    return Snapshot(
        {
            CLUSTER: dict.fromkeys(clusters or ("a",), b"c"),
            ROUTES: {"gateway": routes},
        }
    )


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def cache(metrics: Metrics) -> SnapshotCache:
    return SnapshotCache(metrics, SystemClock(), linger_s=0)


class Envoy:
    """Answers like Envoy; `refuses` are contents that it does not take."""

    def __init__(self, connection: Connection, *refuses: bytes) -> None:
        self.connection = connection
        self.refuses = refuses
        self.history: list[tuple[ResourceType, tuple[bytes, ...]]] = []
        self.is_deaf = False

    async def run(self) -> None:
        self.connection.receive(Request(CLUSTER, frozenset()))
        self.connection.receive(Request(ROUTES, frozenset({"gateway"})))
        while True:
            for one in self.connection.due():
                self.history.append((one.kind, one.resources))
                if self.is_deaf:
                    continue
                error = "no" if set(one.resources) & set(self.refuses) else None
                names = frozenset[str]() if one.kind is CLUSTER else {"gateway"}
                answer = Request(one.kind, frozenset(names), one.nonce, error)
                self.connection.receive(answer)
            await self.connection.wake.wait()
            self.connection.wake.clear()


@asynccontextmanager
async def connected(
    cache: SnapshotCache, *refuses: bytes, node: str = "n"
) -> AsyncIterator[Envoy]:
    with cache.connection(node) as connection:
        envoy = Envoy(connection, *refuses)
        running = asyncio.create_task(envoy.run())
        try:
            yield envoy
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_without_an_envoy_a_publish_is_done_at_once(cache: SnapshotCache) -> None:
    assert await cache.publish(a_snapshot(), 1) == Published(())
    assert cache.target == a_snapshot()


async def test_a_publish_is_done_when_every_envoy_has_it(cache: SnapshotCache) -> None:
    async with connected(cache, node="a"), connected(cache, node="b"):
        assert await cache.publish(a_snapshot(), 5) == Published(("a", "b"))


async def test_a_cluster_goes_only_after_the_routes_have_changed(
    cache: SnapshotCache,
) -> None:
    async with connected(cache) as envoy:
        await cache.publish(a_snapshot(b"r1", "old"), 5)
        await cache.publish(a_snapshot(b"r2", "new"), 5)
        cache.retire()
        await cache.publish(a_snapshot(b"r3", "new"), 5)
        sizes = [(kind, len(resources)) for kind, resources in envoy.history]

    assert sizes[-4:] == [(CLUSTER, 2), (ROUTES, 1), (CLUSTER, 1), (ROUTES, 1)]


async def test_a_cluster_stays_until_no_request_can_be_looking_for_it() -> None:
    clock = FakeClock()
    cache = SnapshotCache(Metrics(), clock, linger_s=30)
    await cache.publish(a_snapshot(b"r1", "old"), 1)
    await cache.publish(a_snapshot(b"r2", "new"), 1)
    clock.advance(29.9)
    cache.retire()
    before = set(cache.target.of(CLUSTER))
    clock.advance(0.1)
    cache.retire()

    assert before == {"old", "new"}
    assert set(cache.target.of(CLUSTER)) == {"new"}


async def test_a_refusal_in_between_does_not_make_it_stay_for_ever() -> None:
    cache = SnapshotCache(Metrics(), FakeClock(), linger_s=0)
    async with connected(cache, b"("):
        await cache.publish(a_snapshot(b"r1", "old"), 5)
        await cache.publish(a_snapshot(b"r2", "new"), 5)
        refused = await cache.publish(a_snapshot(b"(", "third"), 5)
        cache.retire()

    assert isinstance(refused, Refusal)
    assert set(cache.target.of(CLUSTER)) == {"new"}


async def test_a_refusal_brings_back_what_was_in_force(
    cache: SnapshotCache, metrics: Metrics
) -> None:
    good, bad = a_snapshot(b"r1"), a_snapshot(b"(")
    await cache.publish(good, 1)
    async with connected(cache, b"(", node="a"), connected(cache, node="b") as other:
        outcome = await cache.publish(bad, 5)
        last = other.history[-1]

    assert outcome == Refusal("a", ROUTES, bad.versions[ROUTES], "no")
    assert cache.target == good
    assert last == (ROUTES, (b"r1",))
    assert metrics.value("hubgate_config_nacks_total", type="routes") == 1


async def test_who_does_not_answer_is_named_and_gets_it_later(
    cache: SnapshotCache,
) -> None:
    async with connected(cache) as envoy:
        await cache.publish(a_snapshot(b"r1"), 5)
        envoy.is_deaf = True
        outcome = await cache.publish(a_snapshot(b"r2"), 0.05)

    assert outcome == Published(("n",), ("n",))
    assert cache.target == a_snapshot(b"r2")


async def test_an_envoy_that_leaves_is_not_waited_for(cache: SnapshotCache) -> None:
    with cache.connection("gone"):
        publishing = asyncio.create_task(cache.publish(a_snapshot(), 5))
        await asyncio.sleep(0)
        assert not publishing.done()

    assert await publishing == Published(())


async def test_streams_are_counted(cache: SnapshotCache, metrics: Metrics) -> None:
    with cache.connection("n"):
        during = metrics.value("hubgate_xds_streams")

    assert (during, metrics.value("hubgate_xds_streams")) == (1, 0)
