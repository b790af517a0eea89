"""Revocations in Redis, under the keys that authz reads."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import Redis

from control.store import RevocationsUnavailable
from runtime.contracts.redis_keys import blacklist_token_key, blacklist_user_key
from runtime.redis import RedisUnavailable, wrap_errors


class RedisRevocations:
    """One command each."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def revoke_token(self, jti: str, ttl_s: int) -> None:
        with _translated():
            await self._client.set(blacklist_token_key(jti), "1", ex=ttl_s)

    async def revoke_user(self, sub: str, issued_before: float, ttl_s: int) -> None:
        key, cutoff = blacklist_user_key(sub), repr(issued_before)
        with _translated():
            await self._client.set(key, cutoff, ex=ttl_s)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        with wrap_errors():
            yield
    except RedisUnavailable as error:
        raise RevocationsUnavailable(str(error)) from error
