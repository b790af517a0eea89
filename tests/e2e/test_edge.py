"""Blocks, preflights and registered instances, live through the whole stack."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.recorder import Recorder, probe_route, recording
from tests.e2e.stack import Stack, eventually

pytestmark = pytest.mark.e2e


@contextmanager
def blocked(stack: Stack, *networks: str) -> Iterator[None]:
    before = stack.control("GET", "blocked-networks").json()["networks"]
    put = stack.control("PUT", "blocked-networks", {"networks": list(networks)})
    assert put.status_code == 200, put.text
    try:
        yield
    finally:
        stack.control("PUT", "blocked-networks", {"networks": before})


def decisions(stack: Stack) -> int:
    """How often authz was asked, whatever it said."""
    url = f"{stack.ready['envoy_admin']}/stats?filter=http.gateway.ext_authz"
    lines = stack.http.get(url).text.splitlines()
    return sum(int(line.rpartition(":")[2]) for line in lines if "duration" not in line)


def test_a_blocked_address_is_refused_before_authz_is_asked(
    stack: Stack, prefix: str, upstream: Recorder
) -> None:
    token = stack.token()
    assert stack.get(prefix, token).status_code == 200
    seen = len(upstream.seen)
    with blocked(stack, "203.0.113.0/24", "127.0.0.0/8", "2001:db8::/32"):
        answer = eventually(
            lambda: a if (a := stack.get(prefix, token)).status_code == 403 else None,
            5.0,
        )
        assert answer is not None
        asked, reached = decisions(stack), len(upstream.seen)
        again = stack.get(prefix, token)

        assert (answer.json()["code"], again.status_code) == ("IP_BLOCKED", 403)
        assert (decisions(stack), len(upstream.seen)) == (asked, reached)
        assert reached - seen <= 1
    eventually(lambda: stack.get(prefix, token).status_code == 200, 5.0)


@pytest.mark.parametrize("network", ["nonsense", "127.0.0.1/33", "::1/129"])
def test_what_is_no_network_is_refused_by_name(stack: Stack, network: str) -> None:
    put = stack.control("PUT", "blocked-networks", {"networks": [network]})

    assert put.status_code == 422
    assert "networks" in put.json()["errors"][0]["field"]


def test_a_preflight_is_answered_without_authz_or_upstream(stack: Stack) -> None:
    cors = {"origins": ["https://app.example.com"], "credentials": True}
    with recording() as target, probe_route(stack, target, cors=cors) as path:
        asked = decisions(stack)
        answers = {
            origin: stack.request(
                "OPTIONS",
                path,
                headers={"origin": origin, "access-control-request-method": "POST"},
            )
            for origin in ("https://app.example.com", "https://evil.example")
        }

        assert (decisions(stack), target.seen) == (asked, [])
    good, bad = answers.values()
    assert good.status_code in {200, 204}
    assert good.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "access-control-allow-origin" not in bad.headers


def test_an_instance_registers_serves_and_expires(stack: Stack) -> None:
    token = stack.token(role="admin")
    with (
        recording("fixed") as fixed,
        recording("joined") as joined,
        probe_route(stack, fixed) as path,
    ):
        service = path.removeprefix("/api/")
        where = f"services/{service}/instances/joined"
        body = {"address": f"127.0.0.1:{joined.port}", "ttl_s": 15}
        put = stack.control("PUT", where, body)
        assert put.status_code == 200, put.text

        def who() -> set[str]:
            return {stack.get(path, token).json()["upstream"] for _ in range(10)}

        assert eventually(lambda: who() == {"fixed", "joined"}, 10.0)
        assert stack.control("DELETE", where).status_code in {200, 204}
        assert eventually(lambda: who() == {"fixed"}, 10.0)


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/metrics"])
def test_operators_need_no_token_from_their_networks(stack: Stack, path: str) -> None:
    assert stack.get(path).status_code == 200
