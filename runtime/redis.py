"""Redis with deadlines, named scripts and one error."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError


class RedisUnavailable(Exception):
    """Redis did not answer in time, or answered with an error."""


def connect(url: str, *, timeout_s: float) -> "Redis":
    """A client whose every command ends within about `timeout_s`; connects lazily.

    Commands are not retried here: who may repeat a command knows why it is safe.
    """
    return Redis.from_url(
        url,
        protocol=3,
        decode_responses=False,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 0),
        client_name="hubgate",
    )


@contextmanager
def wrap_errors() -> Iterator[None]:
    """Translate whatever the driver raises.

    Raises:
        RedisUnavailable: from the driver's error.
    """
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise RedisUnavailable(type(error).__name__) from error


async def ping(client: "Redis") -> None:
    """A health check.

    Raises:
        RedisUnavailable: no answer.
    """
    with wrap_errors():
        await client.ping()


class Script:
    """A Lua script, sent whole only when the server does not know it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._sha: str | None = None
        self._loading = asyncio.Lock()

    async def run(
        self, client: "Redis", keys: Sequence[str | bytes], args: Sequence[Any]
    ) -> Any:
        """Run once; a script flushed or lost in a restart is loaded again.

        Raises:
            RedisUnavailable: no answer in time.
        """
        with wrap_errors():
            if self._sha is None:
                await self._load(client)
            try:
                return await self._evalsha(client, keys, args)
            except NoScriptError:
                await self._load(client)
                return await self._evalsha(client, keys, args)

    async def _load(self, client: "Redis") -> None:
        async with self._loading:
            self._sha = str(await client.script_load(self._text))

    async def _evalsha(
        self, client: "Redis", keys: Sequence[str | bytes], args: Sequence[Any]
    ) -> Any:
        return await client.execute_command(  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            "EVALSHA", self._sha, len(keys), *keys, *args
        )
