"""What is left to spend, asked of a service that may be slow, away or wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from control.balance import Asking, Balance, HttpBalances

ASKING = Asking("älice", "user", "00000000-0000-0000-0000-000000000001")
NOBODY = "127.0.0.1:1"


def an_answer(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@asynccontextmanager
async def a_service(answer: bytes | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answers each request so, or (None) never; with what it was asked."""
    asked: list[bytes] = []
    open_: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_.append(writer)
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if answer is not None:
            writer.write(answer)
            await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        for writer in open_:
            writer.close()


async def ask(*addresses: str, deadline_s: float = 5.0) -> Balance:
    balances = HttpBalances("core", "/balance", lambda: addresses, deadline_s)
    try:
        return await balances.of(ASKING)
    finally:
        await balances.aclose()


async def test_a_balance_is_asked_in_the_callers_name() -> None:
    async with a_service(an_answer("200 OK", b'{"balance": 41}')) as (address, asked):
        found = await ask(address)

    assert found == Balance(41)
    (request,) = asked
    assert request.startswith(b"GET /balance HTTP/1.1\r\n")
    assert "x-user-id: älice\r\n".encode() in request
    assert b"x-user-role: user\r\n" in request
    assert b"authorization" not in request.lower()


async def test_another_instance_is_asked_when_the_first_is_away() -> None:
    async with a_service(an_answer("200 OK", b'{"balance": 0}')) as (address, _):
        assert await ask(NOBODY, address) == Balance(0)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (an_answer("500 Oops", b""), "core answered with status 500"),
        (
            an_answer("302 Found", b"", "location: http://127.0.0.1:1/"),
            "core answered with status 302",
        ),
        (an_answer("200 OK", b"<html>"), "core said no balance"),
        (an_answer("200 OK", b'{"balance": true}'), "core said no balance"),
        (an_answer("200 OK", b'{"balance": "7"}'), "core said no balance"),
        (an_answer("200 OK", b"[" * 60_000), "core said no balance"),
        (an_answer("200 OK", b" " * 70_000), "core answered too much"),
        (b"garbage\r\n\r\n", "core can't be reached"),
    ],
)
async def test_what_is_no_balance_is_none_with_a_reason(
    answer: bytes, reason: str
) -> None:
    async with a_service(answer) as (address, _):
        assert await ask(address) == Balance(None, reason)


async def test_nobody_is_waited_for_longer_than_the_deadline() -> None:
    async with a_service(None) as (address, _):
        found = await ask(address, deadline_s=0.1)

    assert found == Balance(None, "core did not answer within 0.1 s")


async def test_without_an_instance_there_is_nobody_to_ask() -> None:
    assert await ask() == Balance(None, "core has no instance")
    assert await ask(NOBODY) == Balance(None, "core can't be reached")
