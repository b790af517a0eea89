"""Every store of registrations keeps the same promises."""

import pytest
from redis.asyncio import Redis

from control.registry import (
    MemoryRegistryStore,
    Registration,
    RegistryStore,
    RegistryUnavailable,
)
from control.registry_redis import RedisRegistryStore
from runtime import redis
from runtime.contracts.redis_keys import REGISTRY_KEY

pytestmark = pytest.mark.integration

ONE = Registration("core", "one", "10.0.0.1:80", ttl_s=15.0)


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest, redis_client: Redis) -> RegistryStore:
    if request.param == "memory":
        return MemoryRegistryStore()
    return RedisRegistryStore(redis_client)


async def test_what_is_registered_is_read(store: RegistryStore) -> None:
    await store.register(ONE)
    (seen,) = await store.read()

    assert seen.registration == ONE
    assert seen.left_s is not None
    assert 14 < seen.left_s <= 15


async def test_a_heartbeat_may_bring_a_new_address(store: RegistryStore) -> None:
    moved = Registration("core", "one", "10.0.0.2:80", ttl_s=5.0)
    await store.register(ONE)
    await store.register(moved)
    (seen,) = await store.read()

    assert seen.registration == moved


async def test_a_removal_is_seen_by_every_reader(store: RegistryStore) -> None:
    await store.register(ONE)
    removed, again = (
        await store.remove("core", "one"),
        await store.remove("core", "one"),
    )
    (seen,) = await store.read()

    assert (removed, again) == (True, False)
    assert seen.left_s is None
    assert not await store.remove("core", "nobody")


async def test_a_removed_instance_may_come_back(store: RegistryStore) -> None:
    await store.register(ONE)
    await store.remove("core", "one")
    await store.register(ONE)
    (seen,) = await store.read()

    assert seen.left_s is not None


async def test_redis_itself_forgets_the_expired(redis_client: Redis) -> None:
    store = RedisRegistryStore(redis_client)
    await store.register(Registration("core", "one", "10.0.0.1:80", ttl_s=0.001))
    while await store.read():
        pass

    assert not await redis_client.exists(REGISTRY_KEY)


async def test_an_unreachable_registry_says_so() -> None:
    away = redis.connect("redis://127.0.0.1:1/0", timeout_s=0.2)
    with pytest.raises(RegistryUnavailable):
        await RedisRegistryStore(away).read()
    await away.aclose()
