"""Behind a real Envoy: what upstreams are told of the trace."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from authz.audit import Audit
from authz.authorizer import Authorizer, OnRedisDown
from authz.service import AuthzService
from runtime.clock import FakeClock, SystemClock
from runtime.grpc_server import GrpcServer
from runtime.identity.blacklist import MemoryBlacklist
from runtime.metrics import Metrics
from runtime.settings import Address
from tests.builders import NOW, a_token, a_verifier
from tests.integration.control.envoy_bench import Bench, a_bench

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    metrics = Metrics()
    authorizer = Authorizer(
        verifier=a_verifier(FakeClock(NOW)),
        blacklist=MemoryBlacklist(),
        on_redis_down=OnRedisDown.DENY,
        metrics=metrics,
    )
    service = AuthzService(authorizer, metrics, Audit({}, SystemClock(), _unheard))
    server = GrpcServer(Address(host="127.0.0.1", port=0), service.methods(), metrics)
    await server.start()
    authz = (Address(host="127.0.0.1", port=server.port),)
    try:
        folder = tmp_path_factory.mktemp("envoy")
        async with a_bench(folder, authz=authz) as bench:
            bench.client.headers["authorization"] = f"Bearer {a_token()}"
            yield bench
    finally:
        await server.stop(0.0)


def _unheard(_line: str) -> None:
    """Nobody reads the audit here."""


async def seen(bench: Bench, headers: Any) -> dict[str, str]:
    """The request's headers as the upstream got them."""
    answer = await bench.client.get("/echo", headers=headers)
    found: dict[str, str] = answer.json()["headers"]
    return found


async def test_a_valid_trace_of_the_client_goes_on(bench: Bench) -> None:
    given = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=1"}

    assert given.items() <= (await seen(bench, given)).items()


@pytest.mark.parametrize(
    "given",
    [
        [],
        [("connection", "close, traceparent")],
        [("traceparent", f"00-{TRACE.upper()}-{PARENT}-01")],
        [("traceparent", f"00-{'0' * 32}-{PARENT}-01")],
        [("traceparent", f"00-{TRACE}-{'0' * 16}-01")],
        [("traceparent", f"ff-{TRACE}-{PARENT}-01")],
        [("traceparent", f"00-{TRACE}-{PARENT}-01-x")],
        [("traceparent", "evil")],
        [("traceparent", f"00-{TRACE}-{PARENT}-01")] * 2,
    ],
)
async def test_upstreams_get_a_valid_traceparent(
    bench: Bench, given: list[tuple[str, str]]
) -> None:
    headers = await seen(bench, [*given, ("tracestate", "a=1")])

    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", headers["traceparent"])
    assert headers["x-request-id"].replace("-", "") in headers["traceparent"]
    assert "tracestate" not in headers
