"""Fetches a JWK Set over HTTP, believing as little as possible."""

import asyncio
import ipaddress
from urllib.parse import urlsplit

import httpx

from runtime.identity.jwks import FetchFailed

MAX_BYTES = 256 * 1024
_OK = 200


def check_url(url: str) -> str:
    """The URL itself.

    Raises:
        ValueError: keys would travel in the clear, or the URL holds a password.
    """
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ValueError("give a URL without user and password")
    if parts.hostname and parts.scheme == "https":
        return url
    if parts.hostname and parts.scheme == "http" and _is_loopback(parts.hostname):
        return url
    raise ValueError("give an https:// URL; http:// only to 127.0.0.1, ::1, localhost")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class HttpFetch:
    """No redirects, no proxies or passwords of the environment, one deadline."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    async def __call__(self, url: str) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._get(url)
        except TimeoutError:
            raise FetchFailed(f"no answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise FetchFailed(type(error).__name__) from error

    async def _get(self, url: str) -> bytes:
        # A client of its own: a fetch is rare, and a connection that was kept open
        # for minutes is most likely closed by the other side.
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        async with (
            httpx.AsyncClient(
                follow_redirects=False, trust_env=False, timeout=self._timeout_s
            ) as client,
            client.stream("GET", url, headers=headers) as answer,
        ):
            if answer.status_code != _OK:
                raise FetchFailed(f"status {answer.status_code}")
            if "content-encoding" in answer.headers:
                raise FetchFailed("compressed, though not asked for")
            body = b""
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise FetchFailed(f"more than {MAX_BYTES} bytes")
            return body
