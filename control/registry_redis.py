"""The registry in Redis, so that every control sees every instance."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis

from control.registry import Registration, RegistryUnavailable, Seen
from runtime.contracts.redis_keys import REGISTRY_KEY
from runtime.redis import RedisUnavailable, Script

#: Longer than any control needs to hear of a removal.
REMOVED_FOR_MS = 60_000


class RedisRegistryStore:
    """One script; Redis' own clock decides what has expired."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._script = Script(files("control").joinpath("registry.lua").read_text())

    async def register(self, one: Registration) -> None:
        ttl_ms = round(one.ttl_s * 1000)
        await self._run("register", _field(*one.key), one.address, ttl_ms)

    async def remove(self, service: str, name: str) -> bool:
        removed = await self._run("remove", _field(service, name), REMOVED_FOR_MS)
        return bool(removed)

    async def read(self) -> Sequence[Seen]:
        found = await self._run("read")
        return [_seen(*row) for row in found]

    async def _run(self, *arguments: object) -> Any:
        try:
            return await self._script.run(self._client, [REGISTRY_KEY], arguments)
        except RedisUnavailable as error:
            raise RegistryUnavailable(str(error)) from error


def _field(service: str, name: str) -> str:
    # Neither name may hold a slash (control.values).
    return f"{service}/{name}"


def _seen(field: bytes, address: bytes, ttl_ms: int, left_ms: int) -> Seen:
    service, _, name = field.decode().partition("/")
    registration = Registration(service, name, address.decode(), ttl_ms / 1000)
    return Seen(registration, left_ms / 1000 if left_ms >= 0 else None)
