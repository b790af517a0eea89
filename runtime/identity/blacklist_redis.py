"""The blacklist as auth-service and `hubgate revoke` write it, in Redis."""

from collections.abc import Iterator, Sequence
from typing import Any

from redis.asyncio import Redis

from runtime.contracts.redis_keys import blacklist_token_key, blacklist_user_key
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
        keys = keys_of(claims)
        (answers,) = await read(self._carry, [keys])
        if answers is None:
            raise BlacklistUnavailable("a key of another type")
        return judge(claims, keys, answers)


#: A user's, and a token's if it has an id.
Keys = tuple[str, ...]


def keys_of(claims: Claims) -> Keys:
    """The keys that can revoke such a token."""
    user = blacklist_user_key(claims.sub)
    return (user,) if claims.jti is None else (user, blacklist_token_key(claims.jti))


async def read(carry: Carry, batch: Sequence[Keys]) -> list[Answers | None]:
    """What stands under the keys of each, in one round trip; None: unreadable.

    Raises:
        BlacklistUnavailable: Redis does not say.
    """
    # Not MGET: a plain key of any type counts as listed, and in a cluster the keys live
    # on different nodes.
    commands: list[Command] = []
    for user, *token in batch:
        commands.append(("GET", user))
        commands += [("EXISTS", key) for key in token]
    replies = iter(await _carried(carry, commands))
    return [_answers(keys, replies) for keys in batch]


async def read_together(carry: Carry, batch: Sequence[Keys]) -> list[Answers | None]:
    """The same of one server, which has all keys.

    Nearly always nothing stands there, which one command for each tells.

    Raises:
        BlacklistUnavailable: Redis does not say.
    """
    counts = await _carried(carry, [("EXISTS", *keys) for keys in batch])
    # An error is no 0, and is met again.
    listed = [keys for keys, count in zip(batch, counts, strict=True) if count != 0]
    found = iter(await read(carry, listed) if listed else ())
    return [
        next(found) if count != 0 else dict.fromkeys(keys)
        for keys, count in zip(batch, counts, strict=True)
    ]


async def _carried(carry: Carry, commands: Sequence[Command]) -> list[Any]:
    try:
        with wrap_errors():
            replies = await carry(commands)
            for reply in replies:
                check(reply)
    except RedisUnavailable as error:
        raise BlacklistUnavailable(str(error)) from error
    return replies


def _answers(keys: Keys, replies: Iterator[object]) -> Answers | None:
    """A reply for each key is taken, whatever it is."""
    found: dict[str, bytes | None] = {}
    is_readable = True
    for key in keys:
        reply = next(replies)
        if reply is None or isinstance(reply, bytes):
            found[key] = reply
        elif isinstance(reply, int):
            found[key] = b"1" if reply else None
        else:
            is_readable = False
    return found if is_readable else None


def judge(claims: Claims, keys: Keys, answers: Answers) -> bool:
    """Whether what stands under its keys revokes the token."""
    return is_revoked(
        claims,
        by_id=len(keys) > 1 and answers[keys[1]] is not None,
        user_cutoff=answers[keys[0]],
    )
