"""Browsers: preflights are answered by Envoy, and answers say who may read them."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.integration.control.envoy_bench import Bench, a_bench

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

APP = "https://app.example.com"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with a_bench(tmp_path_factory.mktemp("envoy")) as bench:
        cors = {"origins": [APP, "https://*.example.org"], "credentials": True}
        await bench.add(id="shared", prefix="/shared", methods=["GET"], cors=cors)
        await bench.add(id="any", prefix="/any", cors={"origins": ["*"]})
        yield bench


async def preflight(
    bench: Bench, path: str, origin: str, method: str = "GET"
) -> httpx.Response:
    headers = {"origin": origin, "access-control-request-method": method}
    return await bench.client.options(path, headers=headers)


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        ("/shared/x", APP),
        ("/shared", "https://a.example.org"),
        ("/shared", "https://a.b.example.org"),
        ("/any", "http://localhost:5173"),
    ],
)
async def test_a_preflight_is_answered_and_reaches_nobody(
    bench: Bench, path: str, origin: str
) -> None:
    asked, passed = len(bench.gatekeeper.asked), len(bench.upstream.seen)
    answer = await preflight(bench, path, origin)

    assert answer.is_success
    assert answer.headers["access-control-allow-origin"] == origin
    assert "GET" in answer.headers["access-control-allow-methods"]
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert answer.headers["access-control-max-age"] == "600"
    assert (len(bench.gatekeeper.asked), len(bench.upstream.seen)) == (asked, passed)


@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.com", "https://app.example.com.evil.com", "null"),
        *("http://app.example.com", "https://example.org", "https://evilexample.org"),
        *("https://appxexample.com", f"{APP}:8443", "https://a.example.org.evil.com"),
    ],
)
async def test_another_origin_gets_no_leave_and_reaches_nobody(
    bench: Bench, origin: str
) -> None:
    asked = len(bench.gatekeeper.asked)
    answer = await preflight(bench, "/shared", origin)
    simple = await bench.client.get("/shared", headers={"origin": origin})

    # Without this one the others give no leave.
    assert "access-control-allow-origin" not in answer.headers
    assert "access-control-allow-origin" not in simple.headers
    assert len(bench.gatekeeper.asked) == asked + 1


async def test_a_method_that_the_route_does_not_take_gets_no_leave(
    bench: Bench,
) -> None:
    answer = await preflight(bench, "/shared", APP, "DELETE")

    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


async def test_answers_and_errors_may_be_read_by_the_page(bench: Bench) -> None:
    answer = await bench.client.get("/shared", headers={"origin": APP})
    headers = answer.headers

    assert headers["access-control-allow-origin"] == APP
    assert headers["access-control-allow-credentials"] == "true"
    assert "ratelimit-remaining" in headers["access-control-expose-headers"]
    assert "origin" in headers["vary"]


async def test_a_route_without_cors_has_none(bench: Bench) -> None:
    asked = len(bench.gatekeeper.asked)
    answer = await preflight(bench, "/echo", APP)

    assert "access-control-allow-origin" not in answer.headers
    assert len(bench.gatekeeper.asked) == asked + 1
