"""What a request may not bring along, and what the gateway says to broken ones."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from pydantic import TypeAdapter, ValidationError

from authz.paths import refusal
from control.values import RoutePath
from control.xds.hygiene import OF_TRUSTED_PROXIES, OVERRIDES
from tests.integration.control.envoy_bench import Bench, a_bench, until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

HOST = b"host: x\r\n"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with a_bench(tmp_path_factory.mktemp("envoy")) as bench:
        await bench.edit(edge={"headers_timeout": "500ms", "tls_in_front": True})
        await until(lambda: is_live(bench))
        yield bench


async def is_live(bench: Bench) -> bool:
    """A listener is acknowledged before it takes connections from the one before."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{bench.client.base_url}/health")
    return "strict-transport-security" in answer.headers


async def raw(bench: Bench, content: bytes) -> bytes:
    """What Envoy answers to these bytes until it closes."""
    listen = bench.deployment.listen
    reader, writer = await asyncio.open_connection(listen.host, listen.port)
    try:
        writer.write(content)
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


async def seen(bench: Bench, headers: dict[str, str]) -> dict[str, str]:
    """The request's headers as the upstream got them."""
    answer = await bench.client.get("/echo", headers=headers)
    found: dict[str, str] = answer.json()["headers"]
    return found


OF_PROXIES = [
    OF_TRUSTED_PROXIES + name
    for name in (
        *("host", "port", "prefix", "server", "scheme", "ssl"),
        *("method", "path", "uri", "user", "email", "client-cert"),
    )
]


@pytest.mark.parametrize("name", [*OVERRIDES, *OF_PROXIES])
async def test_what_would_change_the_request_behind_us_is_gone(
    bench: Bench, name: str
) -> None:
    assert name not in await seen(bench, {name: "/admin"})


async def test_upstreams_are_told_of_no_address_by_a_client(bench: Bench) -> None:
    headers = await seen(bench, {"x-forwarded-for": "203.0.113.9"})

    assert headers["x-forwarded-for"]
    assert "203.0.113.9" not in headers["x-forwarded-for"]


@pytest.mark.parametrize(
    "name",
    [
        *("x-user-id", "X-USER-ROLE", "x-user-anything", "x_user_id", "X-User_Id"),
        *("x-usage-credits", "x-usage-new", "x-envoy-original-dst-host"),
        *("x-envoy-retry-on", "x-envoy-internal", "x-envoy-decorator-operation"),
    ],
)
async def test_a_name_that_is_ours_to_say_never_passes(bench: Bench, name: str) -> None:
    headers = await seen(bench, {name: "evil"})

    assert "evil" not in headers.values()
    assert headers["x-user-id"] == "u-1"


@pytest.mark.parametrize("nominated", ["x-user-id", "x-request-id", "authorization"])
async def test_a_connection_header_can_not_strip_what_we_add(
    bench: Bench, nominated: str
) -> None:
    headers = await seen(bench, {"connection": f"close, {nominated}"})

    assert headers["x-user-id"] == "u-1"
    assert headers["x-request-id"]
    assert "connection" not in headers


@pytest.mark.parametrize("method", ["TRACE", "TRACK", "PROPFIND", "CONNECT"])
async def test_a_method_that_is_not_allowed_is_405(bench: Bench, method: str) -> None:
    asked, passed = len(bench.gatekeeper.asked), len(bench.upstream.seen)
    target = "x:80" if method == "CONNECT" else "/echo"
    start = f"{method} {target} HTTP/1.1\r\n".encode()
    answer = await raw(bench, start + HOST + b"connection: close\r\n\r\n")

    # Envoy's parser knows the registered methods only; the rest is a bad request.
    assert answer.startswith((b"HTTP/1.1 405", b"HTTP/1.1 400"))
    if method in {"TRACE", "CONNECT"}:
        assert b"METHOD_NOT_ALLOWED" in answer
    assert (len(bench.gatekeeper.asked), len(bench.upstream.seen)) == (asked, passed)


BROKEN = [
    pytest.param(
        b"GET /echo HTTP/1.1\r\n" + HOST, 408, "BAD_REQUEST", id="headers too slow"
    ),
    pytest.param(
        b"GET /echo HTTP/1.0\r\n\r\n", 426, "BAD_REQUEST", id="an old protocol"
    ),
    pytest.param(
        b"POST /echo HTTP/1.1\r\n" + HOST + b"content-length: 3\r\n"
        b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "BAD_REQUEST",
        id="two lengths",
    ),
    pytest.param(
        b"POST /echo HTTP/1.1\r\n" + HOST + b"transfer-encoding: xchunked\r\n\r\n",
        501,
        "BAD_REQUEST",
        id="an unknown transfer encoding",
    ),
    pytest.param(b"GET /echo HTTP/1.1\r\n\r\n", 400, "BAD_REQUEST", id="no host"),
    pytest.param(
        b"GET /echo HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 200 + b"\r\n",
        431,
        "HEADERS_TOO_LARGE",
        id="too many headers",
    ),
    pytest.param(
        b"GET /echo HTTP/1.1\r\n" + HOST + b"a: " + b"b" * 40_000 + b"\r\n\r\n",
        431,
        "HEADERS_TOO_LARGE",
        id="headers too large",
    ),
    pytest.param(
        b"GET /echo%2fx HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n",
        400,
        "BAD_REQUEST",
        id="an escaped slash",
    ),
    pytest.param(
        b"GET /echo%00 HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n",
        400,
        "BAD_REQUEST",
        id="an escaped zero",
    ),
]


@pytest.mark.parametrize(("content", "status", "code"), BROKEN)
async def test_a_broken_request_gets_json_and_reaches_nobody(
    bench: Bench, content: bytes, status: int, code: str
) -> None:
    asked, passed = len(bench.gatekeeper.asked), len(bench.upstream.seen)
    head, _, body = (await raw(bench, content)).partition(b"\r\n\r\n")

    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"content-type: application/json" in head
    assert json.loads(body)["code"] == code
    assert (len(bench.gatekeeper.asked), len(bench.upstream.seen)) == (asked, passed)
    assert await bench.stat("ext_authz.error") == 0


async def test_noise_is_a_400_and_the_end_of_the_connection(bench: Bench) -> None:
    answer = await raw(bench, b"\x16\x03\x01 noise\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 Bad Request")
    assert b"server:" not in answer


async def test_a_body_that_is_too_large_is_413_also_in_chunks(bench: Bench) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 1000

    chunked = await bench.client.post("/echo", content=chunks())
    whole = await bench.client.post("/echo", content=b"x" * 10_001)
    fits = await bench.client.post("/echo", content=b"x" * 10_000)

    for answer in (chunked, whole):
        assert (answer.status_code, answer.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert fits.status_code == 200


def is_a_routes(path: str) -> bool:
    try:
        TypeAdapter(RoutePath).validate_python(path)
    except ValidationError:
        return False
    return True


#: Every visible character but `#` and `?`, which end a path, and every escape in ASCII.
PIECES = [
    *(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "#?"),
    *(f"%{code:02x}" for code in range(0x80)),
    *("/../", "/./", "//", "/..", "/.", "/.a", "...", "%zz", "%"),
]


async def test_a_routes_path_is_one_that_requests_can_have(bench: Bench) -> None:
    paths = [f"/echo/{number}{piece}" for number, piece in enumerate(PIECES)]
    starts = (f"GET {path} HTTP/1.1\r\n".encode() for path in paths)
    end = HOST + b"connection: close\r\n\r\n"
    await asyncio.gather(*(raw(bench, start + end) for start in starts))
    passed = {one["raw_path"].decode() for one in bench.upstream.seen}

    for path in paths:
        is_routed = path in passed and refusal(path) is None
        assert is_a_routes(path) == is_routed, path


@pytest.mark.parametrize("path", ["/echo", "/health", "/nope", "/dead", "/echo%2f"])
async def test_answers_are_for_https_only_where_tls_ends_in_front(
    bench: Bench, path: str
) -> None:
    headers = (await bench.client.get(path)).headers

    assert headers["strict-transport-security"].startswith("max-age=")
    assert ("content-security-policy" in headers) == (path != "/echo")


async def test_a_stream_lasts_while_it_moves_and_ends_in_silence(bench: Bench) -> None:
    await bench.add(id="held", path="/held", timeout="0s", idle_timeout="1s")
    bench.upstream.release.clear()
    async with bench.client.stream("GET", "/held") as answer:
        lines = answer.aiter_lines()
        first = await anext(lines)
        with pytest.raises(httpx.RemoteProtocolError):
            [line async for line in lines]

    assert first == "data: first"
