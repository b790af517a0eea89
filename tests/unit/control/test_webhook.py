"""One message to one webhook: within a deadline, and to no address but allowed ones."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest

from control.webhook import HttpWebhooks, NotDelivered


@asynccontextmanager
async def a_receiver(
    status: str, promised: int = 0
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answers with that status, `silence`: never; says that so many bytes follow."""
    got: list[bytes] = []
    open_: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        got.append(head + await reader.readexactly(length))
        if status != "silence":
            writer.write(
                f"HTTP/1.1 {status}\r\nlocation: /elsewhere\r\n"
                f"content-length: {promised}\r\n\r\n".encode()
            )
            await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], got
    finally:
        server.close()
        for writer in open_:
            writer.close()


async def send(url: str, *networks: str, deadline_s: float = 5.0) -> None:
    webhooks = HttpWebhooks([ip_network(one) for one in networks], deadline_s)
    try:
        await webhooks.send(url, {"status": "firing"}, "hubgate-1")
    finally:
        await webhooks.aclose()


async def test_a_message_is_posted_as_json() -> None:
    async with a_receiver("204 No Content") as (port, got):
        await send(f"http://localhost:{port}/a?b=c", "127.0.0.0/8", "::1/128")

    ((head, _, body),) = [one.partition(b"\r\n\r\n") for one in got]
    assert head.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert f"host: localhost:{port}".encode() in head.lower()
    assert b"idempotency-key: hubgate-1" in head.lower()
    assert json.loads(body) == {"status": "firing"}


async def test_each_message_has_a_connection_of_its_own() -> None:
    webhooks = HttpWebhooks([ip_network("127.0.0.0/8")], 5.0)
    async with a_receiver("200 OK") as (port, got):
        for number in range(2):
            await webhooks.send(f"http://127.0.0.1:{port}/", {}, str(number))
    await webhooks.aclose()

    assert len(got) == 2  # the receiver reads one of each


@pytest.mark.parametrize(
    "status", ["302 Found", "307 Temporary Redirect", "400 Bad", "503 Away"]
)
async def test_only_a_good_answer_is_a_delivery(status: str) -> None:
    async with a_receiver(status) as (port, got):
        with pytest.raises(NotDelivered, match=status[:3]):
            await send(f"http://127.0.0.1:{port}/", "127.0.0.0/8")

    assert len(got) == 1


async def test_of_an_answer_only_its_status_is_read() -> None:
    async with a_receiver("200 OK", 10**15) as (port, got):
        await send(f"http://127.0.0.1:{port}/", "127.0.0.0/8")

    assert len(got) == 1


async def test_a_webhook_has_its_deadline() -> None:
    async with a_receiver("silence") as (port, _):
        with pytest.raises(NotDelivered, match=r"within 0\.2 s"):
            await send(f"http://127.0.0.1:{port}/", "127.0.0.0/8", deadline_s=0.2)


async def test_a_name_of_a_private_address_is_not_called() -> None:
    async with a_receiver("204 No Content") as (port, got):
        with pytest.raises(NotDelivered, match="no public address"):
            await send(f"https://localhost:{port}/secret")

    assert got == []


async def test_a_name_that_can_not_be_asked_for_is_no_delivery() -> None:
    for host in ("alerts..example", "a" * 64 + ".example"):
        with pytest.raises(NotDelivered, match="label"):
            await send(f"https://{host}/")


async def test_the_url_is_not_in_the_reason() -> None:
    with pytest.raises(NotDelivered) as raised:
        await send("http://127.0.0.1:1/s3cret", "127.0.0.0/8")

    assert "s3cret" not in str(raised.value)
