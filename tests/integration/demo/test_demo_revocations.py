"""The blacklist's writer: the same questions to the twin in memory and to Redis."""

import uuid
from collections.abc import AsyncIterator

import httpx
import jwt
import pytest
from redis.asyncio import Redis

from local.demo.auth import AuthDeps, create_app
from local.demo.revocations import MemoryRevocations, Revocations
from local.demo.revocations_redis import RedisRevocations
from local.demo.tokens import ACCESS_TTL_S, Signer
from runtime.clock import SystemClock
from runtime.contracts.redis_keys import REVOCATION_MARGIN_S, blacklist_token_key
from runtime.redis import RedisUnavailable, connect

KEY = b"a key of the demo, thirty-two bytes or more"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url, timeout_s=2)
    yield client
    await client.aclose()


@pytest.fixture(params=["memory", "redis"])
def revocations(request: pytest.FixtureRequest, redis: Redis) -> Revocations:
    return MemoryRevocations() if request.param == "memory" else RedisRevocations(redis)


async def test_only_the_first_revocation_counts(revocations: Revocations) -> None:
    jti = str(uuid.uuid4())
    assert await revocations.revoke(jti, 60)
    assert not await revocations.revoke(jti, 60)


async def test_a_token_about_to_expire_can_be_revoked(
    revocations: Revocations,
) -> None:
    assert await revocations.revoke(str(uuid.uuid4()), 0)


async def test_a_logout_writes_the_key_that_the_gateway_reads(redis: Redis) -> None:
    deps = AuthDeps(Signer(KEY), RedisRevocations(redis), SystemClock())
    transport = httpx.ASGITransport(create_app(deps))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://auth/api/auth/"
    ) as client:
        body = {"username": "demo-user", "password": "demo"}
        token = (await client.post("login", json=body)).json()["accessToken"]
        headers = {"authorization": f"Bearer {token}"}
        assert (await client.post("logout", headers=headers)).status_code == 204
    jti = jwt.decode(token, KEY, algorithms=["HS256"])["jti"]
    left = await redis.ttl(blacklist_token_key(jti))
    longest = ACCESS_TTL_S + REVOCATION_MARGIN_S
    assert longest - 30 < left <= longest


async def test_redis_away_is_told_as_such() -> None:
    client = connect("redis://127.0.0.1:1/0", timeout_s=0.2)
    with pytest.raises(RedisUnavailable):
        await RedisRevocations(client).revoke("j", 1)
    await client.aclose()
