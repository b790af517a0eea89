"""What clients see through the real gateway."""

import json
import uuid

import httpx
import jwt
import pytest
import redis
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from runtime.clock import SystemClock
from tests.e2e.stack import Stack, a_user, eventually

pytestmark = pytest.mark.e2e

CLOCK = SystemClock()


def code(response: httpx.Response) -> str:
    body = response.json()
    assert response.headers["content-type"] == "application/json"
    assert set(body) == {"code", "message", "requestId"}
    assert body["requestId"] == response.headers["x-request-id"]
    return str(body["code"])


def denied_soon(stack: Stack, path: str, token: str) -> httpx.Response:
    """The first answer that is no 200; `test_revocation_in_flight.py` says how soon.

    What was kept of a token in use is withdrawn by another connection than the next
    request's.
    """

    def denied() -> httpx.Response | None:
        answer = stack.get(path, token)
        return None if answer.status_code == 200 else answer

    found = eventually(denied, 1.0)
    assert found is not None
    return found


def test_a_user_passes_and_the_upstream_knows_who_it_is(stack: Stack) -> None:
    user = a_user()
    response = stack.get("/api/users/me", stack.token(user, "manager"))

    assert response.status_code == 200
    uuid.UUID(response.headers["x-request-id"])
    assert response.headers["ratelimit-limit"] == "120"
    assert response.headers["ratelimit-remaining"] == "119"
    assert 0 < int(response.headers["ratelimit-reset"]) <= 61
    body = response.json()
    assert (body["id"], body["role"]) == (user, "manager")
    assert body["requestId"] == response.headers["x-request-id"]


def test_without_a_token_the_answer_is_401_as_json(stack: Stack) -> None:
    response = stack.get("/api/users/me")

    assert response.status_code == 401
    assert code(response) == "TOKEN_MISSING"
    assert response.headers["www-authenticate"] == 'Bearer realm="hubgate"'


@pytest.mark.parametrize("name", ["x-user-id", "X-User-Id", "x-user-role"])
def test_a_clients_own_identity_headers_never_pass(stack: Stack, name: str) -> None:
    user = a_user()
    response = stack.get("/api/users/me", stack.token(user), headers={name: "admin"})

    assert (response.json()["id"], response.json()["role"]) == (user, "user")


def test_a_clients_own_request_id_is_replaced(stack: Stack) -> None:
    mine = str(uuid.uuid4())
    response = stack.get("/api/users/me", stack.token(), headers={"x-request-id": mine})

    assert response.headers["x-request-id"] != mine


def test_a_token_revoked_by_the_command_is_denied(stack: Stack) -> None:
    token = stack.token()
    before = stack.get("/api/users/me", token)
    done = stack.command("revoke", token)
    after = denied_soon(stack, "/api/users/me", token)

    assert (before.status_code, done.returncode) == (200, 0), done.stderr
    assert after.status_code == 401
    assert code(after) == "TOKEN_REVOKED"


def test_a_token_revoked_by_hand_in_redis_is_denied(stack: Stack) -> None:
    token = stack.token()
    jti = jwt.decode(token, options={"verify_signature": False})["jti"]
    with redis.Redis.from_url(stack.ready["redis_url"]) as client:
        client.set(f"bl:{jti}", 1)
    response = stack.get("/api/users/me", token)

    assert code(response) == "TOKEN_REVOKED"


def test_all_tokens_of_a_revoked_user_are_denied(stack: Stack) -> None:
    user = a_user()
    tokens = [stack.token(user), stack.token(user)]
    done = stack.command("revoke", "--user", user)

    assert done.returncode == 0, done.stderr
    assert {code(stack.get("/api/users/me", one)) for one in tokens} == {
        "TOKEN_REVOKED"
    }


def test_login_gives_a_token_and_logout_takes_it_back(stack: Stack) -> None:
    account = {"username": "demo-user", "password": "demo"}
    login = stack.request("POST", "/api/auth/login", json=account)
    token = login.json()["accessToken"]
    before = stack.get("/api/credits/balance", token)
    logout = stack.request("POST", "/api/auth/logout", token)
    after = denied_soon(stack, "/api/credits/balance", token)

    assert (before.status_code, logout.status_code) == (200, 204)
    assert code(after) == "TOKEN_REVOKED"


def test_a_refresh_token_is_no_access_token(stack: Stack) -> None:
    account = {"username": "demo-user", "password": "demo"}
    login = stack.request("POST", "/api/auth/login", json=account)
    response = stack.get("/api/users/me", login.json()["refreshToken"])

    assert code(response) == "TOKEN_INVALID"


def test_the_61st_request_of_a_user_within_a_minute_is_denied(stack: Stack) -> None:
    token = stack.token()
    answers = [stack.get("/api/users/me", token) for _ in range(61)]
    last = answers[-1]

    assert [one.status_code for one in answers] == [200] * 60 + [429]
    assert [int(one.headers["ratelimit-remaining"]) for one in answers] == [
        *range(59, -1, -1),
        0,
    ]
    assert code(last) == "RATE_LIMIT_EXCEEDED"
    assert last.json()["message"] == "Too many requests, try again later"
    assert 0 < int(last.headers["retry-after"]) <= 61


def test_another_token_of_the_same_user_does_not_refill_the_limit(
    stack: Stack,
) -> None:
    user = a_user()
    tokens = [stack.token(user), stack.token(user)]
    left = [
        int(stack.get("/api/users/me", one).headers["ratelimit-remaining"])
        for one in tokens
    ]

    assert left == [59, 58]


def test_admin_is_not_limited(stack: Stack) -> None:
    token = stack.token(role="admin")
    answers = [stack.get("/api/users/me", token) for _ in range(130)]

    assert {one.status_code for one in answers} == {200}
    assert "ratelimit-limit" not in answers[-1].headers


def test_a_role_that_the_route_does_not_list_is_forbidden(stack: Stack) -> None:
    route = {"path": "/api/admins", "service": "core-service", "roles": ["admin"]}
    stack.control("PUT", "routes/admins", route)
    allowed = stack.get("/api/admins", stack.token(role="admin"))
    denied = stack.get("/api/admins", stack.token(role="manager"))
    stack.control("DELETE", "routes/admins")

    assert allowed.status_code == 404  # core-service's own
    assert denied.status_code == 403
    assert code(denied) == "FORBIDDEN"


def test_metrics_are_for_allowed_networks_whoever_asks(stack: Stack) -> None:
    answer = stack.get("/metrics")

    assert answer.status_code == 200
    assert "hubgate_xds_streams" in answer.text


@pytest.mark.parametrize("path", ["/", "/api", "/api/usersettings", "/nowhere"])
def test_a_path_without_a_route_is_404_as_json(stack: Stack, path: str) -> None:
    with_token = stack.get(path, stack.token())
    without = stack.get(path)

    assert (with_token.status_code, without.status_code) == (404, 404)
    assert {code(with_token), code(without)} == {"ROUTE_NOT_FOUND"}


def test_health_answers_without_a_token(stack: Stack) -> None:
    response = stack.get("/health")

    assert (response.status_code, response.json()["status"]) == (200, "ok")


@pytest.mark.parametrize("message", ["hello", b"\x00\xff"], ids=["text", "binary"])
def test_a_websocket_echoes(stack: Stack, message: str | bytes) -> None:
    url = stack.gateway.replace("http", "ws") + "/api/ws/echo"
    header = {"Authorization": f"Bearer {stack.token()}"}
    with connect(url, additional_headers=header, proxy=None) as socket:
        socket.send(message)
        assert socket.recv(timeout=5) == message


def test_a_browser_may_send_its_token_as_a_subprotocol(stack: Stack) -> None:
    url = stack.gateway.replace("http", "ws") + "/api/ws/echo"
    protocols = [Subprotocol("bearer"), Subprotocol(stack.token())]
    with connect(url, subprotocols=protocols, proxy=None) as socket:
        assert socket.subprotocol == "bearer"
        socket.send("hello")
        assert socket.recv(timeout=5) == "hello"


def test_a_websocket_without_a_token_is_refused(stack: Stack) -> None:
    url = stack.gateway.replace("http", "ws") + "/api/ws/echo"
    with pytest.raises(InvalidStatus) as caught, connect(url, proxy=None):
        pass

    assert caught.value.response.status_code == 401
    assert json.loads(caught.value.response.body or b"")["code"] == "TOKEN_MISSING"


def test_the_first_event_arrives_before_the_last_is_produced(stack: Stack) -> None:
    """The upstream makes an event every 100 ms; the first is here long before."""
    body = {
        "model": "gpt-4o",
        "stream": True,
        "messages": [{"role": "user", "content": "a b c d e f g h i j"}],
        "hubgate_demo": {"event_interval_ms": 100},
    }
    headers = {"authorization": f"Bearer {stack.token()}"}
    url = f"{stack.gateway}/api/mcp/openai/v1/chat/completions"
    with stack.http.stream("POST", url, json=body, headers=headers) as response:
        arrivals = [
            CLOCK.monotonic()
            for line in response.iter_lines()
            if line.startswith("data:")
        ]

    assert len(arrivals) > 5
    assert arrivals[-1] - arrivals[0] > 0.3


def test_the_gateway_says_nothing_about_its_parts(stack: Stack) -> None:
    answers = [
        stack.get("/api/users/me", stack.token()),
        stack.get("/api/users/me"),
        stack.get("/nowhere"),
    ]

    for answer in answers:
        names = {name.lower() for name in answer.headers}
        assert not {"server", "x-powered-by"} & names
        assert not [name for name in names if name.startswith("x-envoy")]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_dead_upstream_is_an_error_of_ours_as_json(stack: Stack) -> None:
    service = {"instances": ["127.0.0.1:1"]}
    route = {
        "id": "dead",
        "prefix": "/api/dead",
        "service": "dead-service",
        "rate_limit": "none",
    }
    assert stack.control("PUT", "services/dead-service", service).status_code == 200
    assert stack.control("PUT", "routes/dead", route).status_code == 200
    response = stack.get("/api/dead", stack.token())
    stack.control("DELETE", "routes/dead")
    stack.control("DELETE", "services/dead-service")

    assert response.status_code == 503
    assert code(response) == "UPSTREAM_UNAVAILABLE"


def test_an_upstreams_own_status_passes_as_it_is(stack: Stack) -> None:
    response = stack.get("/api/mcp/status/418", stack.token())

    assert response.status_code == 418
