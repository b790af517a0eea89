"""The blacklist as auth-service and `hubgate revoke` write it, in Redis."""

from redis.asyncio import Redis

from runtime.contracts import blacklist_token_key, blacklist_user_key
from runtime.identity.blacklist import BlacklistUnavailable, is_revoked
from runtime.identity.tokens import Claims
from runtime.redis import RedisUnavailable, wrap_errors


class RedisBlacklist:
    """One round trip a decision."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def is_revoked(self, claims: Claims) -> bool:
        # Two commands in one packet, not MGET: a plain key of any type counts as
        # listed, and in a cluster the two keys may live on different nodes.
        pipeline = self._client.pipeline(transaction=False)
        pipeline.get(blacklist_user_key(claims.sub))
        if claims.jti is not None:
            pipeline.exists(blacklist_token_key(claims.jti))
        try:
            with wrap_errors():
                cutoff, *listed = await pipeline.execute()
        except RedisUnavailable as error:
            raise BlacklistUnavailable(str(error)) from error
        return is_revoked(claims, by_id=any(listed), user_cutoff=cutoff)
