"""What a hostile client sends on the wire never reaches an upstream as it meant it."""

from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.recorder import (
    RawAnswer,
    Recorder,
    authz_errors,
    probe_route,
    recording,
    send_raw,
)
from tests.e2e.stack import Stack, eventually, limits_of

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def authz_decides_everything(stack: Stack) -> Iterator[None]:
    """Whatever is sent, Envoy never fails to get a decision."""
    before = authz_errors(stack)
    yield
    assert authz_errors(stack) == before


@pytest.fixture
def token(stack: Stack) -> str:
    return stack.token()


def raw(stack: Stack, token: str, target: str, *lines: bytes) -> RawAnswer:
    head = [
        b"GET " + target.encode("latin-1") + b" HTTP/1.1",
        b"host: gateway",
        b"authorization: Bearer " + token.encode(),
        *lines,
    ]
    return send_raw(stack, b"\r\n".join(head) + b"\r\n\r\n")


PATHS = {
    "double encoding": "/%252e%252e/secret",
    "encoded slash": "/a%2fb",
    "encoded backslash": "/a%5cb",
    "parameter beside dots": "/..;/secret",
    "parameter beside encoded dots": "/%2e%2e;x=1/secret",
    "encoded NUL": "/a%00b",
    "encoded newline": "/a%0d%0ab",
    "not UTF-8": "/%ff%fe",
    "bad escape": "/a%zzb",
}


@pytest.mark.parametrize("name", PATHS)
def test_a_path_that_two_parsers_could_read_differently_is_refused(
    stack: Stack, prefix: str, upstream: Recorder, token: str, name: str
) -> None:
    seen = len(upstream.seen)
    answer = raw(stack, token, prefix + PATHS[name])

    assert answer.status in {400, 404}, answer
    assert answer.code in {"BAD_REQUEST", "ROUTE_NOT_FOUND"}
    assert len(upstream.seen) == seen


@pytest.mark.parametrize(
    "tail",
    [
        "/../../api/users/me",
        "/%2e%2e/%2e%2e/api/users/me",
        "//../../x",
        "/a\\..\\..\\b",
    ],
)
def test_dot_segments_never_lead_out_of_a_route(
    stack: Stack, prefix: str, upstream: Recorder, token: str, tail: str
) -> None:
    raw(stack, token, prefix + tail)

    paths = [one.path for one in upstream.seen]
    assert not [one for one in paths if ".." in one or "%2e" in one or "\\" in one]
    assert not [one for one in paths if not one.startswith(prefix)]


SPOOFS = [
    b"x-user-id: root",
    b"X-User-ID: root",
    b"x-user-role: admin",
    b"x_user_id: root",
    b"X-User_Role: admin",
    b"x-usage-credits: 0",
    b"x-envoy-original-dst-host: 127.0.0.1:1",
    b"x-envoy-upstream-rq-timeout-ms: 1",
    b"x-envoy-max-retries: 100",
    b"x-original-url: /api/admin",
    b"x-rewrite-url: /api/admin",
    b"x-http-method-override: DELETE",
    b"x-real-ip: 10.0.0.1",
    b"forwarded: for=10.0.0.1",
]


@pytest.mark.parametrize("line", SPOOFS, ids=lambda line: line.decode())
def test_a_header_that_only_the_gateway_may_say_never_passes(
    stack: Stack, prefix: str, upstream: Recorder, token: str, line: bytes
) -> None:
    name, _, value = line.decode().partition(": ")
    mark = f"/spoof-{abs(hash(line))}"
    raw(stack, token, prefix + mark, line)

    for seen in upstream.by_path(mark):
        assert value not in seen.header(name)
        assert value not in seen.header(name.replace("_", "-"))
        assert seen.header("x-user-role") == ["user"]


@pytest.mark.parametrize(
    "names", [b"x-user-id", b"x-user-id, x-user-role", b"authorization, x-user-role"]
)
def test_connection_options_strip_nothing_of_ours(
    stack: Stack, prefix: str, upstream: Recorder, token: str, names: bytes
) -> None:
    """RFC 9110 §7.6.1: names in Connection are removed before forwarding."""
    mark = f"/hop-{abs(hash(names))}"
    answer = raw(stack, token, prefix + mark, b"connection: " + names)
    seen = upstream.by_path(mark)

    assert answer.status in {200, 400, 401}
    assert [one.header("x-user-role") for one in seen] == [["user"]] * len(seen)


SMUGGLES = {
    "length and chunks": (
        b"POST {p} HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n"
        b"transfer-encoding: chunked\r\n\r\n0\r\n\r\nGET {p}/smuggled HTTP/1.1\r\n\r\n"
    ),
    "two lengths": (
        b"POST {p} HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n"
        b"content-length: 0\r\n\r\nGET {p}/smuggled HTTP/1.1\r\n\r\n"
    ),
    "odd transfer coding": (
        b"POST {p} HTTP/1.1\r\nhost: h\r\ntransfer-encoding: xchunked\r\n\r\n"
        b"0\r\n\r\nGET {p}/smuggled HTTP/1.1\r\n\r\n"
    ),
    "space before the colon": (
        b"GET {p} HTTP/1.1\r\nhost: h\r\nx-user-id : root\r\n\r\n"
    ),
    "folded header": b"GET {p} HTTP/1.1\r\nhost: h\r\nx: a\r\n b: c\r\n\r\n",
    "NUL in a header": b"GET {p} HTTP/1.1\r\nhost: h\r\nx: a\x00b\r\n\r\n",
    "two hosts": b"GET {p} HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "HTTP/1.0": b"GET {p} HTTP/1.0\r\nhost: h\r\n\r\n",
    "no host": b"GET {p} HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLES)
def test_a_request_with_two_readings_is_refused_whole(
    stack: Stack, prefix: str, upstream: Recorder, name: str
) -> None:
    seen = len(upstream.seen)
    answer = send_raw(stack, SMUGGLES[name].replace(b"{p}", prefix.encode()))

    assert answer.status in {0, 400, 401, 426, 501}, answer
    assert len(upstream.seen) == seen


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "TRACK"])
def test_a_method_that_is_not_listed_is_refused(
    stack: Stack, prefix: str, upstream: Recorder, token: str, method: str
) -> None:
    seen = len(upstream.seen)
    answer = send_raw(
        stack,
        f"{method} {prefix} HTTP/1.1\r\nhost: h\r\n"
        f"authorization: Bearer {token}\r\n\r\n".encode(),
    )

    assert answer.status in {400, 403, 404, 405}, answer
    assert len(upstream.seen) == seen


def test_a_body_over_the_limit_is_413_with_and_without_a_length(
    stack: Stack, prefix: str, upstream: Recorder, token: str
) -> None:
    size = 11 * 1024 * 1024
    with_length = stack.request("POST", prefix, token, content=b"x" * size)

    def chunks() -> Iterator[bytes]:
        for _ in range(11):
            yield b"x" * 1024 * 1024

    chunked = stack.request("POST", prefix, token, content=chunks())

    assert (with_length.status_code, chunked.status_code) == (413, 413)
    assert with_length.json()["code"] == "PAYLOAD_TOO_LARGE"
    assert not [one for one in upstream.seen if len(one.body) >= size]


def test_too_many_or_too_large_headers_are_431(
    stack: Stack, prefix: str, upstream: Recorder, token: str
) -> None:
    seen = len(upstream.seen)
    many = [f"x-{number}: 1".encode() for number in range(200)]
    large = [b"x-large: " + b"a" * 70_000]

    for lines in (many, large):
        answer = raw(stack, token, prefix, *lines)
        assert answer.status == 431
        assert answer.code == "HEADERS_TOO_LARGE"
    assert len(upstream.seen) == seen


def test_a_client_that_never_finishes_its_headers_has_ten_seconds(
    stack: Stack,
) -> None:
    """What becomes of it then, in less: control/test_hygiene, "headers too slow"."""
    url = f"{stack.ready['envoy_admin']}/config_dump"
    dump = stack.http.get(url, params={"resource": "dynamic_listeners"}).text

    assert '"request_headers_timeout": "10s"' in dump


def test_a_spoofed_address_buys_no_fresh_limit(stack: Stack) -> None:
    """A guest has its requests a minute, whatever it says about its address."""
    terms = {"auth": "none", "rate_limit": {"requests": 10, "per": "minute"}}
    with recording() as guests, probe_route(stack, guests, **terms) as path:
        url = stack.gateway + path
        elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(transport=elsewhere, timeout=20) as another:
            eventually(lambda: limits_of(lambda: another.get(url)) == {"10"}, 10.0)
        before = len(guests.seen)
        names = ("x-forwarded-for", "x-real-ip", "x-client-ip")
        spoofs = [dict.fromkeys(names, f"198.51.100.{number}") for number in range(12)]
        statuses = [stack.get(path, headers=one).status_code for one in spoofs]

    assert statuses == [200] * 10 + [429] * 2
    assert len(guests.seen) - before == 10


@pytest.mark.parametrize("where", ["path", "header"])
def test_the_access_logs_separator_gets_into_no_record(
    stack: Stack, token: str, where: str
) -> None:
    target = "/api/users/a\x1fb" if where == "path" else "/api/users/me"
    line = b"x-session-id: a\x1fb" if where == "header" else b"x-a: b"

    assert raw(stack, token, target, line).status == 400
