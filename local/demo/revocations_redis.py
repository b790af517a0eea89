"""The blacklist that the gateway reads."""

from redis.asyncio import Redis

from runtime.contracts.redis_keys import blacklist_token_key
from runtime.redis import wrap_errors


class RedisRevocations:
    """One key per token; NX makes a refresh token good for exactly one use."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def revoke(self, jti: str, ttl_s: int) -> bool:
        with wrap_errors():
            written = await self._redis.set(
                blacklist_token_key(jti), "1", ex=max(1, ttl_s), nx=True
            )
        return bool(written)
