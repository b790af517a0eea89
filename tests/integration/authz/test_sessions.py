"""Through the real Envoy: a socket lives as long as its token, and no longer."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from authz.audit import Audit
from authz.authorizer import Authorizer, OnRedisDown
from authz.service import AuthzService
from authz.session_service import SessionService
from authz.sessions import Sessions
from control.xds.deployment import OnAuthzDown
from runtime import redis as runtime_redis
from runtime.clock import SystemClock
from runtime.contracts.redis_keys import blacklist_token_key, blacklist_user_key
from runtime.grpc_server import GrpcServer, Method
from runtime.identity.blacklist_tracked import TrackedBlacklist
from runtime.identity.verdicts import Verdicts
from runtime.metrics import Metrics
from runtime.settings import Address
from tests.builders import a_token, a_verifier
from tests.integration.control.envoy_bench import Bench, a_bench, free_port, until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

CLOCK = SystemClock()
PROMISE_S = 5.0
LEEWAY_S = 30.0


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


@dataclass
class Gate:
    """An Envoy and a whole authz beside it."""

    bench: Bench
    redis: Redis
    sessions: Sessions
    metrics: Metrics
    server: GrpcServer
    stop: asyncio.Event

    def connect(self, token: str | None, path: str = "/ws") -> connect:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        url = str(self.bench.client.base_url).replace("http", "ws")
        return connect(f"{url}{path}", additional_headers=headers, proxy=None)

    async def count(self, wanted: int) -> None:
        async def has() -> bool:
            return len(self.sessions) == wanted

        await until(has)


@asynccontextmanager
async def a_gate(
    folder: Path, redis_url: str, **deployment: Any
) -> AsyncIterator[Gate]:
    async with AsyncExitStack() as closing:
        client = runtime_redis.connect(redis_url, timeout_s=0.5)
        closing.push_async_callback(client.aclose)
        metrics, stop = Metrics(), asyncio.Event()
        verdicts = Verdicts(CLOCK, stale_s=30)
        blacklist = TrackedBlacklist(client, verdicts, CLOCK, metrics, 2.0)
        authorizer = Authorizer(
            verifier=a_verifier(CLOCK),
            blacklist=blacklist,
            on_redis_down=OnRedisDown.DENY,
            metrics=metrics,
        )
        service = AuthzService(authorizer, metrics, Audit({}, CLOCK, len))
        sessions = Sessions(blacklist, CLOCK, metrics, LEEWAY_S)
        methods: list[Method] = [
            *service.methods(),
            *SessionService(sessions).methods(),
        ]
        address = Address(host="127.0.0.1", port=free_port())
        server = GrpcServer(address, methods, metrics)
        await server.start()
        closing.push_async_callback(server.stop, 0.0)
        tasks = [asyncio.create_task(one.run(stop)) for one in (blacklist, sessions)]
        bench = await closing.enter_async_context(
            a_bench(folder, authz=(address,), **deployment)
        )
        upstream = await closing.enter_async_context(serve(echo, "127.0.0.1", 0))
        port = upstream.sockets[0].getsockname()[1]

        def with_sockets(document: dict[str, Any]) -> dict[str, Any]:
            socket = {"service": "sockets", "rate_limit": "none", "websocket": True}
            routes = [
                {"id": "ws", "path": "/ws", "timeout": "0s", **socket},
                {"id": "open", "path": "/open", "auth": "optional", **socket},
            ]
            services = {"sockets": {"instances": [f"127.0.0.1:{port}"]}}
            return {
                **document,
                "services": {**document["services"], **services},
                "routes": [*document["routes"], *routes],
            }

        await bench.changes.apply(with_sockets, "test", "")
        yield Gate(bench, client, sessions, metrics, server, stop)
        stop.set()
        await asyncio.gather(*tasks)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gate(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str
) -> AsyncIterator[Gate]:
    async with a_gate(tmp_path_factory.mktemp("sessions"), redis_url) as gate:
        yield gate


def token(**changes: Any) -> str:
    now = CLOCK.now()
    own = {"sub": f"u-{uuid.uuid4()}", "jti": str(uuid.uuid4())}
    return a_token(**{**own, "iat": now - 1, "exp": now + 600, **changes})


async def is_alive(socket: ClientConnection) -> bool:
    await socket.send("hello")
    async with asyncio.timeout(PROMISE_S):
        return await socket.recv() == "hello"


async def seconds_until_closed(socket: ClientConnection) -> float:
    started = time.perf_counter()
    async with asyncio.timeout(2 * PROMISE_S):
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    return time.perf_counter() - started


async def test_the_socket_of_a_revoked_token_is_closed_and_no_other(
    gate: Gate,
) -> None:
    jti = str(uuid.uuid4())
    async with gate.connect(token(jti=jti)) as socket, gate.connect(token()) as other:
        assert await is_alive(socket)
        await gate.redis.set(blacklist_token_key(jti), 1, ex=60)
        took = await seconds_until_closed(socket)

        assert took < PROMISE_S
        assert await is_alive(other)
    await gate.count(0)
    assert (
        gate.metrics.value("hubgate_authz_sessions_ended_total", reason="revoked") >= 1
    )


async def test_all_sockets_of_a_revoked_user_are_closed(gate: Gate) -> None:
    user = f"u-{uuid.uuid4()}"
    async with (
        gate.connect(token(sub=user)) as one,
        gate.connect(token(sub=user)) as two,
    ):
        assert await is_alive(one)
        assert await is_alive(two)
        cutoff = str(CLOCK.now())
        await gate.redis.set(blacklist_user_key(user), cutoff, ex=60)

        assert await seconds_until_closed(one) < PROMISE_S
        assert await seconds_until_closed(two) < PROMISE_S


async def test_the_socket_of_an_expired_token_is_closed(gate: Gate) -> None:
    end = CLOCK.now() + 2 - LEEWAY_S
    async with gate.connect(token(exp=end, iat=end - 10)) as socket:
        assert await is_alive(socket)

        assert await seconds_until_closed(socket) < 2 + PROMISE_S


async def test_a_guests_socket_needs_no_watch(gate: Gate) -> None:
    await gate.count(0)
    async with gate.connect(None, "/open") as socket:
        assert await is_alive(socket)
        assert len(gate.sessions) == 0
        assert await is_alive(socket)


async def test_a_socket_closed_by_its_client_is_forgotten(gate: Gate) -> None:
    async with gate.connect(token()) as socket:
        assert await is_alive(socket)
        await gate.count(1)
    await gate.count(0)


async def test_a_client_can_not_bring_its_own_identity(gate: Gate) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with gate.connect("forged"):
            pass

    assert refused.value.response.status_code == 401


async def test_other_routes_hold_no_stream(gate: Gate) -> None:
    headers = {"authorization": f"Bearer {token()}"}
    answer = await gate.bench.client.get("/echo", headers=headers)
    seen = answer.json()["headers"]

    assert answer.status_code == 200
    assert len(gate.sessions) == 0
    assert seen["x-client-address"] == "127.0.0.1"


@pytest.mark.parametrize("policy", list(OnAuthzDown), ids=str)
async def test_when_authz_stops_its_sockets_do_as_set(
    tmp_path: Path, redis_url: str, policy: OnAuthzDown
) -> None:
    async with (
        a_gate(tmp_path, redis_url, websocket_on_authz_down=policy) as gate,
        gate.connect(token()) as socket,
    ):
        assert await is_alive(socket)
        gate.stop.set()
        await gate.server.stop(2.0)
        if policy is OnAuthzDown.CLOSE:
            assert await seconds_until_closed(socket) < PROMISE_S
        else:
            assert await is_alive(socket)
