"""Redis, alone or as a cluster, with deadlines, named scripts and one error."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

#: `redis+cluster://a:1,b:2` is the same as `redis://a:1?cluster=true`.
_CLUSTER = "+cluster"
_DEFAULT_PORT = 6379


_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError)


class RedisUnavailable(Exception):
    """Redis did not answer in time, or answered with an error; says which kind."""


def connect(url: str, *, timeout_s: float) -> "Redis":
    """A client whose every command ends within about `timeout_s`; connects lazily.

    Commands are not retried here: who may repeat a command knows why it is safe. A
    cluster's client has the same commands, for keys of one hash tag at a time.
    """
    options: dict[str, Any] = {
        "protocol": 3,
        "decode_responses": False,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "health_check_interval": 0,
        "client_name": "hubgate",
    }
    nodes, plain = _cluster_nodes(url)
    if not nodes:
        return Redis.from_url(plain, retry=Retry(NoBackoff(), 0), **options)
    cluster = RedisCluster.from_url(
        plain,
        startup_nodes=nodes,
        # One lost master must not take the others' keys with it.
        require_full_coverage=False,
        # The second try is for a slot that has moved.
        retry=Retry(NoBackoff(), 1),
        **options,
    )
    return cast("Redis", cluster)


def is_cluster(client: "Redis") -> bool:
    """Whether keys of one call must share their hash tag."""
    return isinstance(client, RedisCluster)


def node_name(client: "Redis", key: str) -> str:
    """Which server holds `key`; "" when there is one only, or nobody knows yet."""
    if not isinstance(client, RedisCluster):
        return ""
    node = client.get_node_from_key(key)
    return "" if node is None else str(node.name)


def _cluster_nodes(url: str) -> tuple[list[ClusterNode], str]:
    """The nodes to begin with (none: not a cluster), and the first one's plain URL."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    is_one = query.pop("cluster", "").lower() in ("true", "1", "yes")
    is_one = is_one or parts.scheme.endswith(_CLUSTER)
    if not is_one:
        return [], url
    account, at, hosts = parts.netloc.rpartition("@")
    first, *others = hosts.split(",")
    plain = urlunsplit(
        (
            parts.scheme.removesuffix(_CLUSTER),
            f"{account}{at}{first}",
            "",
            urlencode(query),
            "",
        )
    )
    return [_node(text) for text in (first, *others)], plain


def _node(text: str) -> ClusterNode:
    parts = urlsplit(f"//{text}")
    return ClusterNode(parts.hostname or "localhost", parts.port or _DEFAULT_PORT)


@contextmanager
def wrap_errors() -> Iterator[None]:
    """Translate whatever the driver raises.

    Raises:
        RedisUnavailable: from the driver's error.
    """
    try:
        yield
    except _ERRORS as error:
        raise RedisUnavailable(type(error).__name__) from error


async def ping(client: "Redis") -> None:
    """A health check.

    Raises:
        RedisUnavailable: no answer.
    """
    with wrap_errors():
        await client.ping()


#: Keys and arguments of one run of a script.
Call = tuple[Sequence[str | bytes], Sequence[Any]]
Command = tuple[str | bytes | int | float, ...]
#: Brings commands to Redis: an answer or an error for each, or none and an exception.
Carry = Callable[[Sequence[Command]], Awaitable[list[Any]]]


def each_by_itself(client: "Redis") -> Carry:
    """Every command to its own server; the client keeps connections enough."""

    async def carry(commands: Sequence[Command]) -> list[Any]:
        sent = [
            client.execute_command(*one)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            for one in commands
        ]
        return list(await asyncio.gather(*sent, return_exceptions=True))

    return carry


class Script:
    """A Lua script, sent whole only when the server does not know it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def run(
        self, client: "Redis", keys: Sequence[str | bytes], args: Sequence[Any]
    ) -> Any:
        """Run once.

        Raises:
            RedisUnavailable: no answer in time, or the script failed.
        """
        (answer,) = await self.run_many(each_by_itself(client), [(keys, args)])
        with wrap_errors():
            if isinstance(answer, Exception):
                raise answer
        return answer

    async def run_many(self, carry: Carry, calls: Sequence[Call]) -> list[Any]:
        """Run once for each call, in one round trip.

        The answer of a call on which the script failed is a ResponseError.

        Raises:
            RedisUnavailable: what all calls would meet: no answer, no writing, …
        """
        try:
            return await self._run_many(carry, calls)
        except _ERRORS as error:
            raise RedisUnavailable(type(error).__name__) from error

    async def _run_many(self, carry: Carry, calls: Sequence[Call]) -> list[Any]:
        answers = await carry(_commands("EVALSHA", self._sha, calls))
        # Flushed, or lost in a restart; the whole text makes it known again.
        lost = [
            place
            for place, answer in enumerate(answers)
            if isinstance(answer, NoScriptError)
        ]
        if lost:
            again = [calls[one] for one in lost]
            told = await carry(_commands("EVAL", self._text, again))
            for place, answer in zip(lost, told, strict=True):
                answers[place] = answer
        for answer in answers:
            for one in answer if isinstance(answer, list) else (answer,):
                check(one)
        return answers


def check(answer: Any) -> None:
    """Of an answer that `Carry` has brought: whether the server is one that answers.

    Raises:
        RedisError, OSError: all commands would meet it.
    """
    # Subclasses of ResponseError are about the server: READONLY, LOADING.
    if isinstance(answer, Exception) and type(answer) is not ResponseError:
        raise answer


def _commands(name: str, script: str, calls: Sequence[Call]) -> list[Command]:
    return [(name, script, len(keys), *keys, *args) for keys, args in calls]
