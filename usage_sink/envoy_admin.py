"""The admin interface of the Envoy beside us: which life it is in, and its log file."""

from dataclasses import dataclass
from typing import Any

import httpx

from runtime.contracts import LABEL_INCARNATION, LABEL_NODE, NODE_LABELS
from runtime.settings import Address

_TIMEOUT_S = 2.0


class EnvoyAway(Exception):
    """Envoy's admin interface does not answer, or not as expected."""


@dataclass(frozen=True, slots=True)
class Life:
    """What Envoy says of itself; later incarnations of a node sort behind."""

    node: str
    incarnation: str


class EnvoyAdmin:
    """Asks over TCP or a Unix socket."""

    def __init__(self, address: Address) -> None:
        transport = httpx.AsyncHTTPTransport(uds=address.path)
        host = "envoy" if address.path is not None else str(address)
        self._client = httpx.AsyncClient(
            base_url=f"http://{host}",
            transport=transport,
            timeout=_TIMEOUT_S,
            trust_env=False,
        )

    async def life(self) -> Life:
        """Raises EnvoyAway: it does not answer."""
        info = await self._ask("GET", "/server_info")
        try:
            node = info.json()["node"]
            labels: dict[str, Any] = node.get("metadata", {}).get(NODE_LABELS, {})
            name = labels.get(LABEL_NODE) or node["id"]
            return Life(str(name), str(labels.get(LABEL_INCARNATION, "")))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise EnvoyAway("not Envoy's server_info") from error

    async def reopen_logs(self) -> None:
        """Raises EnvoyAway: it does not answer."""
        await self._ask("POST", "/reopen_logs")

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, method: str, path: str) -> httpx.Response:
        try:
            answer = await self._client.request(method, path)
            answer.raise_for_status()
        except (httpx.HTTPError, OSError) as error:
            raise EnvoyAway(type(error).__name__) from error
        return answer
