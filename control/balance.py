"""What a user has left to spend: asked of the service that keeps the balances.

It is asked directly, as Envoy would: with the caller's identity in the gateway's own
headers. So the question is no call of the user's, and costs no hit of a limit.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import httpx

from runtime.contracts import HEADER_REQUEST_ID, HEADER_USER_ID, HEADER_USER_ROLE

#: Of a service whose instances don't answer, two are tried.
_TRIES: Final = 2
_MAX_BYTES: Final = 64 * 1024
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Asking:
    """Whose balance, and on which request's behalf."""

    user_id: str
    role: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Balance:
    """`credits` None: nobody can tell now, and `reason` says why."""

    credits: int | None
    reason: str | None = None


class Balances(Protocol):
    """Never raises, never takes long."""

    async def of(self, asking: Asking) -> Balance:
        """What is left."""


class MemoryBalances:
    """For tests and tools: by user."""

    def __init__(self) -> None:
        self.credits: dict[str, int] = {}

    async def of(self, asking: Asking) -> Balance:
        if asking.user_id not in self.credits:
            return Balance(None, "nobody keeps this user's balance")
        return Balance(self.credits[asking.user_id])


class HttpBalances:
    """`addresses` are those of the service's instances now, such as 127.0.0.1:3002."""

    def __init__(
        self,
        service: str,
        path: str,
        addresses: Callable[[], Sequence[str]],
        deadline_s: float,
    ) -> None:
        self._service = service
        self._path = path
        self._addresses = addresses
        self._deadline_s = deadline_s
        # No proxy of the environment's: identity headers go to the service only.
        self._client = httpx.AsyncClient(
            timeout=deadline_s, follow_redirects=False, trust_env=False
        )

    async def of(self, asking: Asking) -> Balance:
        addresses = list(self._addresses())
        if not addresses:
            return self._unknown("has no instance")
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._ask(addresses[:_TRIES], asking)
        except TimeoutError:
            return self._unknown(f"did not answer within {self._deadline_s:g} s")

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _ask(self, addresses: Sequence[str], asking: Asking) -> Balance:
        for address in addresses:
            try:
                return await self._read(address, asking)
            except (httpx.HTTPError, httpx.InvalidURL):
                continue
        return self._unknown("can't be reached")

    async def _read(self, address: str, asking: Asking) -> Balance:
        headers = {
            HEADER_USER_ID.encode(): asking.user_id.encode(),
            HEADER_USER_ROLE.encode(): asking.role.encode(),
            HEADER_REQUEST_ID.encode(): asking.request_id.encode(),
        }
        url, content = f"http://{address}{self._path}", b""
        async with self._client.stream("GET", url, headers=headers) as answer:
            if answer.status_code != _OK:
                return self._unknown(f"answered with status {answer.status_code}")
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > _MAX_BYTES:
                    return self._unknown("answered too much")
        credits_ = _balance(content)
        return (
            self._unknown("said no balance") if credits_ is None else Balance(credits_)
        )

    def _unknown(self, what: str) -> Balance:
        return Balance(None, f"{self._service} {what}")


def _balance(content: bytes) -> int | None:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    value = document.get("balance") if isinstance(document, dict) else None
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole else None
