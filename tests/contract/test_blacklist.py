"""One behaviour of the blacklist, in memory and in Redis, with answers kept or not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from runtime import redis as runtime_redis
from runtime.clock import SystemClock
from runtime.contracts.redis_keys import blacklist_token_key, blacklist_user_key
from runtime.identity.blacklist import (
    Blacklist,
    BlacklistUnavailable,
    MemoryBlacklist,
)
from runtime.identity.blacklist_redis import RedisBlacklist
from runtime.identity.blacklist_tracked import TrackedBlacklist
from runtime.identity.tokens import Claims
from runtime.identity.verdicts import Verdicts
from runtime.metrics import Metrics

CLAIMS = Claims("u-1", "user", exp=200.0, iat=100.0, jti="t-1")
Revoke = Callable[[str | None, str | None], Awaitable[None]]


@pytest.fixture(params=["memory", "redis", "tracked"])
async def sides(
    request: pytest.FixtureRequest, redis_client: Redis
) -> AsyncIterator[tuple[Blacklist, Revoke]]:
    """A blacklist, and how others write into it: (token id, user's cutoff)."""
    if request.param == "memory":
        memory = MemoryBlacklist()
        yield memory, writing_to(memory)
    elif request.param == "redis":
        yield RedisBlacklist(redis_client), writing_into(redis_client)
    else:
        async with tracking(redis_client) as tracked:
            yield tracked, writing_into(redis_client)


def writing_to(memory: MemoryBlacklist) -> Revoke:
    async def revoke(jti: str | None, cutoff: str | None) -> None:
        if jti is not None:
            memory.token_ids.add(jti)
        if cutoff is not None:
            memory.user_cutoffs["u-1"] = cutoff.encode()

    return revoke


def writing_into(client: Redis) -> Revoke:
    async def revoke(jti: str | None, cutoff: str | None) -> None:
        if jti is not None:
            await client.set(blacklist_token_key(jti), 1)
        if cutoff is not None:
            await client.set(blacklist_user_key("u-1"), cutoff)

    return revoke


@asynccontextmanager
async def tracking(client: Redis) -> AsyncIterator[TrackedBlacklist]:
    clock, stop = SystemClock(), asyncio.Event()
    verdicts = Verdicts(clock, stale_s=30)
    tracked = TrackedBlacklist(client, verdicts, clock, Metrics(), 2.0)
    running = asyncio.create_task(tracked.run(stop))
    yield tracked
    stop.set()
    await running


async def test_nothing_is_revoked_at_first(sides: tuple[Blacklist, Revoke]) -> None:
    assert not await sides[0].is_revoked(CLAIMS)


async def test_a_listed_token_is_revoked_and_others_are_not(
    sides: tuple[Blacklist, Revoke],
) -> None:
    blacklist, revoke = sides
    await revoke("t-1", None)

    assert await blacklist.is_revoked(CLAIMS)
    assert not await blacklist.is_revoked(Claims("u-1", "user", 200.0, 100.0, "t-2"))
    assert not await blacklist.is_revoked(Claims("u-1", "user", 200.0, 100.0, None))


async def test_a_users_earlier_tokens_are_revoked_and_later_ones_are_not(
    sides: tuple[Blacklist, Revoke],
) -> None:
    blacklist, revoke = sides
    await revoke(None, "150")

    assert await blacklist.is_revoked(CLAIMS)
    assert await blacklist.is_revoked(Claims("u-1", "user", 200.0, None, "t-9"))
    assert not await blacklist.is_revoked(Claims("u-1", "user", 300.0, 150.0, "t-9"))
    assert not await blacklist.is_revoked(Claims("u-2", "user", 200.0, 100.0, "t-9"))


async def test_of_those_who_ask_together_each_has_an_answer_of_its_own(
    sides: tuple[Blacklist, Revoke],
) -> None:
    blacklist, revoke = sides
    await revoke("t-3", "150")
    each = [replace(CLAIMS, sub=f"u-{n}", jti=f"t-{n}") for n in range(6)]

    found = await asyncio.gather(*map(blacklist.is_revoked, each))

    assert found == [False, True, False, True, False, False]


async def test_a_key_written_by_hand_revokes_whatever_it_holds(
    redis_client: Redis,
) -> None:
    await redis_client.rpush("bl:t-1", "a list, of all things")

    assert await RedisBlacklist(redis_client).is_revoked(CLAIMS)


async def test_a_user_key_of_another_type_is_no_pass(redis_client: Redis) -> None:
    await redis_client.rpush("bl:user:u-1", "a list, of all things")

    with pytest.raises(BlacklistUnavailable):
        await RedisBlacklist(redis_client).is_revoked(CLAIMS)


async def test_such_a_key_is_the_trouble_of_its_user_alone(redis_client: Redis) -> None:
    await redis_client.rpush("bl:user:u-1", "a list, of all things")
    async with tracking(redis_client) as blacklist:
        mine, other = await asyncio.gather(
            blacklist.is_revoked(CLAIMS),
            blacklist.is_revoked(Claims("u-2", "user", 200.0, 100.0, "t-2")),
            return_exceptions=True,
        )

    assert isinstance(mine, BlacklistUnavailable)
    assert other is False


async def test_an_absent_redis_is_unavailable_and_not_a_pass() -> None:
    client = runtime_redis.connect("redis://127.0.0.1:1/0", timeout_s=0.2)

    with pytest.raises(BlacklistUnavailable):
        await RedisBlacklist(client).is_revoked(CLAIMS)
    await client.aclose()


async def test_an_absent_memory_is_unavailable_too() -> None:
    memory = MemoryBlacklist()
    memory.is_available = False

    with pytest.raises(BlacklistUnavailable):
        await memory.is_revoked(CLAIMS)
