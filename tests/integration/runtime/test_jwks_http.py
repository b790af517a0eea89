"""A JWK Set over real HTTP: within limits, or not at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send

from runtime.identity.jwks import FetchFailed
from runtime.identity.jwks_http import MAX_BYTES, HttpFetch
from runtime.ops_server import HttpServer
from runtime.settings import Address
from tests.integration.control.envoy_bench import free_port

DEADLINE_S = 10.0


async def keys(scope: Scope, receive: Receive, send: Send) -> None:
    """One path for each kind of answer."""
    await receive()
    kind = scope["path"].removeprefix("/")
    headers: list[tuple[bytes, bytes]] = []
    status, pieces, pause = 200, [b'{"keys":[]}'], 0.0
    match kind:
        case "moved":
            status, headers = 302, [(b"location", b"/good")]
        case "large":
            pieces = [b"x" * 65_536] * (MAX_BYTES // 65_536 + 1)
        case "slow":
            pieces, pause = [b" "] * 100, 0.05
        case "packed":
            headers = [(b"content-encoding", b"gzip")]
        case "broken":
            status = 500
        case _:
            pass
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for piece in pieces:
        await asyncio.sleep(pause)
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    server = HttpServer(keys, Address(host="127.0.0.1", port=0), 1.0)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()


async def test_a_set_is_fetched() -> None:
    async with serving() as url:
        assert await HttpFetch(DEADLINE_S)(f"{url}/good") == b'{"keys":[]}'


@pytest.mark.parametrize(
    ("kind", "timeout_s", "reason"),
    [
        ("moved", DEADLINE_S, "status 302"),
        ("large", DEADLINE_S, "more than 262144 bytes"),
        ("slow", 0.3, "no answer within 0.3 s"),
        ("packed", DEADLINE_S, "compressed"),
        ("broken", DEADLINE_S, "status 500"),
    ],
)
async def test_what_is_not_by_the_rules_is_not_taken(
    kind: str, timeout_s: float, reason: str
) -> None:
    async with serving() as url:
        with pytest.raises(FetchFailed, match=reason):
            await HttpFetch(timeout_s)(f"{url}/{kind}")


async def test_nobody_there_is_a_failed_fetch() -> None:
    with pytest.raises(FetchFailed, match="ConnectError"):
        await HttpFetch(DEADLINE_S)(f"http://127.0.0.1:{free_port()}/")
