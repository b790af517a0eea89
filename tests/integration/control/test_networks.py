"""Who may come in: by the client's address, in the real Envoy."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from control import edits
from control.changes import Applied
from control.model import GatewayConfig
from control.parse import from_document
from runtime.clock import SystemClock
from tests.integration.control.envoy_bench import Bench, a_bench

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

#: A proxy of ours in front tells the client's address in the last place.
EDGE = {"trusted_hops": 1, "metrics_networks": ["198.51.100.0/24", "127.0.0.0/8"]}


def behind_a_proxy(port: int) -> GatewayConfig:
    config: GatewayConfig = from_document(
        {
            "version": 1,
            "edge": EDGE,
            "services": {"up": {"instances": [f"127.0.0.1:{port}"]}},
            "routes": [
                {"id": "echo", "prefix": "/", "service": "up", "rate_limit": "none"}
            ],
        }
    )
    return config


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with a_bench(tmp_path_factory.mktemp("envoy"), behind_a_proxy) as bench:
        yield bench


async def ask(bench: Bench, path: str, *addresses: str) -> httpx.Response:
    headers = {"x-forwarded-for": ", ".join(addresses)}
    return await bench.client.get(path, headers=headers)


async def block(bench: Bench, *networks: str) -> None:
    outcome = await bench.changes.apply(
        lambda document: edits.put_blocked_networks(document, list(networks)), "t", ""
    )
    assert isinstance(outcome, Applied)


async def test_a_blocked_network_is_refused_before_authz(bench: Bench) -> None:
    await block(bench, "203.0.113.0/24", "2001:db8::/32")
    asked, seen = len(bench.gatekeeper.asked), len(bench.upstream.seen)
    for address in ("203.0.113.9", "2001:db8::1"):
        answer = await ask(bench, "/echo", address)

        assert (answer.status_code, answer.json()["code"]) == (403, "IP_BLOCKED")
        assert answer.json()["requestId"] == answer.headers["x-request-id"]
        assert answer.headers["content-type"] == "application/json"

    assert (len(bench.gatekeeper.asked), len(bench.upstream.seen)) == (asked, seen)
    assert await bench.stat("ext_authz.error") == 0
    assert (await ask(bench, "/echo", "203.0.114.9")).status_code == 200
    assert (await ask(bench, "/health", "203.0.113.9")).status_code == 403


async def test_a_lie_about_the_address_helps_nobody(bench: Bench) -> None:
    await block(bench, "203.0.113.0/24")
    lied = await ask(bench, "/echo", "192.0.2.1", "203.0.113.9")
    framed = await ask(bench, "/echo", "203.0.113.9", "192.0.2.1")
    named = await bench.client.get(
        "/echo",
        headers={
            "x-forwarded-for": "203.0.113.9",
            "x-real-ip": "192.0.2.1",
            "forwarded": "for=192.0.2.1",
            "x-envoy-external-address": "192.0.2.1",
        },
    )

    assert lied.status_code == 403
    assert framed.status_code == 200
    assert named.status_code == 403


@pytest.mark.alone
async def test_a_change_counts_within_a_second_on_an_open_connection(
    bench: Bench,
) -> None:
    clock = SystemClock()
    await block(bench)
    before = await ask(bench, "/echo", "203.0.113.9")
    began = clock.monotonic()
    await block(bench, "203.0.113.9")
    after = await ask(bench, "/echo", "203.0.113.9")
    took = clock.monotonic() - began
    await block(bench)
    freed = await ask(bench, "/echo", "203.0.113.9")

    statuses = [one.status_code for one in (before, after, freed)]
    assert statuses == [200, 403, 200]
    assert took < 1.0


async def test_metrics_are_for_their_networks_only(bench: Bench) -> None:
    await block(bench, "198.51.100.7")
    asked = len(bench.gatekeeper.asked)
    outside = await ask(bench, "/metrics", "192.0.2.1")
    inside = await ask(bench, "/metrics", "198.51.100.1")
    blocked = await ask(bench, "/metrics", "198.51.100.7")
    ready = await ask(bench, "/health/ready", "192.0.2.1")
    written = await bench.client.post("/metrics")

    assert (outside.status_code, outside.json()["code"]) == (403, "FORBIDDEN")
    assert (blocked.status_code, blocked.json()["code"]) == (403, "IP_BLOCKED")
    # Nothing listens where this bench says control is: the request was let through.
    assert (inside.status_code, ready.status_code) == (503, 503)
    assert len(bench.gatekeeper.asked) == asked
    assert written.status_code == 405
