"""Liveness, readiness and metrics over HTTP, on a port or a Unix socket."""

import asyncio
import socket
import statistics
import time
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from runtime.health import Health
from runtime.metrics import Metrics
from runtime.ops_server import HttpServer, OpsServer, ops_app
from runtime.settings import Address

#: More than any socket holds.
_MUCH = 64 * 1024 * 1024


async def broken() -> None:
    raise ConnectionError


async def test_liveness_needs_nothing_and_readiness_needs_all(tmp_path: Path) -> None:
    health, metrics = Health(), Metrics("control")
    health.add("redis", broken)
    path = tmp_path / "ops"
    path.touch()  # as a killed process leaves it
    server = OpsServer(Address(path=str(path)), health, metrics)
    await server.start()
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        alive = await client.get("/health")
        ready = await client.get("/health/ready")
        values = await client.get("/metrics")
    await server.stop()

    assert alive.json() == {"status": "ok"}
    assert ready.status_code == 503
    assert ready.json() == {
        "status": "unavailable",
        "components": {"redis": "ConnectionError"},
    }
    assert "hubgate_config_revision" in values.text


async def test_a_free_port_can_be_asked_for() -> None:
    app = ops_app(Health(), Metrics())
    server = HttpServer(app, Address(host="127.0.0.1"), drain_timeout_s=1)
    assert server.port == 0
    await server.start()
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{server.port}/health/ready")
    await server.stop()

    assert answer.json() == {"status": "ok", "components": {}}


async def test_a_taken_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address(host="127.0.0.1", port=taken.getsockname()[1])
        server = HttpServer(ops_app(Health(), Metrics()), address, drain_timeout_s=1)
        with pytest.raises(OSError, match="in use"):
            await server.start()


async def test_without_an_address_there_is_no_server() -> None:
    server = OpsServer(None, Health(), Metrics())

    await server.start()
    await server.stop()


async def test_who_does_not_read_the_rest_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runtime.ops_server._LINGER_S", 0.1)
    server = HttpServer(_breaks_off, Address(host="127.0.0.1", port=0), 1.0)
    await server.start()
    loop = asyncio.get_running_loop()
    try:
        with socket.create_connection(("127.0.0.1", server.port)) as one:
            one.setblocking(False)  # noqa: FBT003 - the library's own signature
            await loop.sock_sendall(one, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            found, connections = 0, server._server.server_state.connections
            async with asyncio.timeout(10):
                found += len(await loop.sock_recv(one, 1))
                had = len(connections)
                while connections:
                    await asyncio.sleep(0.05)
                while some := await loop.sock_recv(one, 1024 * 1024):
                    found += len(some)
    finally:
        await server.stop()

    assert had == 1
    assert found < _MUCH


async def _breaks_off(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    body = bytes(_MUCH)
    await send({"type": "http.response.body", "body": body, "more_body": True})


@pytest.mark.alone
async def test_answers_are_not_held_back_to_fill_packets() -> None:
    server = HttpServer(_two_packets, Address(host="127.0.0.1", port=0), 1.0)
    await server.start()
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            url, took = f"http://127.0.0.1:{server.port}/", []
            for _ in range(20):
                started = time.perf_counter()
                await client.get(url)
                took.append(time.perf_counter() - started)
    finally:
        await server.stop()

    # Nagle's algorithm and a delayed acknowledgement make it 40 ms.
    assert statistics.median(took) < 0.03


async def _two_packets(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body", "body": b"b"})
