"""The blacklist as auth-service and `hubgate revoke` write it, in Redis."""

from collections.abc import Sequence

from redis.asyncio import Redis

from runtime.contracts import blacklist_token_key, blacklist_user_key
from runtime.identity.blacklist import BlacklistUnavailable, is_revoked
from runtime.identity.tokens import Claims
from runtime.identity.verdicts import Answers
from runtime.redis import (
    Carry,
    Command,
    RedisUnavailable,
    check,
    each_by_itself,
    wrap_errors,
)


class RedisBlacklist:
    """One round trip a decision."""

    def __init__(self, client: Redis) -> None:
        self._carry = each_by_itself(client)

    async def is_revoked(self, claims: Claims) -> bool:
        (answers,) = await read(self._carry, [claims])
        if answers is None:
            raise BlacklistUnavailable("a key of another type")
        return judge(claims, answers)


def keys_of(claims: Claims) -> tuple[str, ...]:
    """The keys that can revoke such a token."""
    user = blacklist_user_key(claims.sub)
    return (user,) if claims.jti is None else (user, blacklist_token_key(claims.jti))


async def read(carry: Carry, batch: Sequence[Claims]) -> list[Answers | None]:
    """What stands under the keys of each, in one round trip; None: unreadable.

    Raises:
        BlacklistUnavailable: Redis does not say.
    """
    # Not MGET: a plain key of any type counts as listed, and in a cluster the keys live
    # on different nodes.
    commands: list[Command] = []
    for claims in batch:
        user, *token = keys_of(claims)
        commands.append(("GET", user))
        commands += (("EXISTS", key) for key in token)
    try:
        with wrap_errors():
            replies = await carry(commands)
            for reply in replies:
                check(reply)
    except RedisUnavailable as error:
        raise BlacklistUnavailable(str(error)) from error
    rest = iter(replies)
    return [_answers(claims, [next(rest) for _ in keys_of(claims)]) for claims in batch]


def _answers(claims: Claims, replies: list[object]) -> Answers | None:
    found: dict[str, bytes | None] = {}
    for key, reply in zip(keys_of(claims), replies, strict=True):
        match reply:
            case bytes() | None:
                found[key] = reply
            case int():
                found[key] = b"1" if reply else None
            case _:
                return None
    return found


def judge(claims: Claims, answers: Answers) -> bool:
    """Whether they revoke the token."""
    keys = keys_of(claims)
    return is_revoked(
        claims,
        by_id=len(keys) > 1 and answers[keys[1]] is not None,
        user_cutoff=answers[keys[0]],
    )
