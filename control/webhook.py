"""Sends alerts to webhooks: with a deadline, to no address that is not allowed."""

import asyncio
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import httpx

from control.webhook_policy import Forbidden, Network, Target, check, target

_GOOD: Final = range(200, 300)


class NotDelivered(Exception):
    """It was not taken, or nobody knows; it may be sent again."""


class Webhooks(Protocol):
    """Sends one message."""

    async def send(self, url: str, body: Mapping[str, Any], message_id: str) -> None:
        """Raises NotDelivered; a message that was taken may still raise it."""


class MemoryWebhooks:
    """For tests and tools."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Mapping[str, Any]]] = []
        self.ids: list[str] = []
        self.failure: str | None = None

    async def send(self, url: str, body: Mapping[str, Any], message_id: str) -> None:
        if self.failure is not None:
            raise NotDelivered(self.failure)
        self.sent.append((url, body))
        self.ids.append(message_id)


class HttpWebhooks:
    """Follows no redirect, uses no proxy, reads no answer but its status."""

    def __init__(self, networks: Sequence[Network], deadline_s: float) -> None:
        self._networks = networks
        self._deadline_s = deadline_s
        self._client = httpx.AsyncClient(
            timeout=deadline_s,
            follow_redirects=False,
            trust_env=False,
            # A pool knows connections by address; certificates are of names.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def send(self, url: str, body: Mapping[str, Any], message_id: str) -> None:
        try:
            async with asyncio.timeout(self._deadline_s):
                status = await self._post(target(url), body, message_id)
        except TimeoutError:
            raise NotDelivered(f"no answer within {self._deadline_s:g} s") from None
        except (ValueError, httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            # ValueError: forbidden, or a name that can't be asked for. Not the URL: it
            # may hold a secret.
            raise NotDelivered(f"{type(error).__name__}: {error}"[:256]) from None
        if status not in _GOOD:
            raise NotDelivered(f"answered with status {status}")

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _post(self, to: Target, body: Mapping[str, Any], message_id: str) -> int:
        address = await self._allowed(to)
        host = f"[{address}]" if ":" in address else address
        # To the address that was checked, in the name that the certificate has.
        request = self._client.build_request(
            "POST",
            f"{to.scheme}://{host}:{to.port}{to.path}",
            content=json.dumps(body).encode(),
            headers={
                "host": to.authority,
                "content-type": "application/json",
                "user-agent": "hubgate",
                "idempotency-key": message_id,
            },
            extensions={"sni_hostname": to.host},
        )
        response = await self._client.send(request, stream=True)
        await response.aclose()
        return response.status_code

    async def _allowed(self, to: Target) -> str:
        """One of the host's addresses, all of which must be allowed."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(to.host, to.port, type=socket.SOCK_STREAM)
        addresses = [check(to.scheme, str(one[4][0]), self._networks) for one in found]
        if not addresses:
            raise Forbidden("the name has no address")
        return str(addresses[0])
