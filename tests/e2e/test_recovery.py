"""What dies comes back; what is stopped leaves nothing behind."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import (
    HUBGATE,
    Stack,
    a_user,
    eventually,
    processes_of,
    running_stack,
    start_stack,
)

pytestmark = pytest.mark.e2e

SERVICES = [
    "authz",
    "ratelimit",
    "usage_sink",
    "control",
    "envoy",
    "redis",
    "postgres",
]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that these tests may break."""
    with running_stack(tmp_path_factory.mktemp("own")) as one:
        yield one


def is_healthy(stack: Stack, token: str) -> bool:
    """A request passes, is limited, and control and its database answer."""
    try:
        answer = stack.get("/api/users/me", token)
        usage = stack.get("/api/usage/logs", token)
        ready = stack.http.get(f"{stack.ready['control']}/health/ready")
    except httpx.TransportError:
        return False
    return {answer.status_code, usage.status_code, ready.status_code} == {200}


@pytest.mark.parametrize("kind", SERVICES)
def test_a_killed_service_is_back_within_five_seconds(own: Stack, kind: str) -> None:
    token = own.token(role="admin")
    victim = own.pids()[kind][0]
    os.kill(victim, signal.SIGKILL)

    def is_back() -> bool:
        pids = own.pids()[kind]
        return (
            victim not in pids
            and len(pids) == len(own.ready["pids"][kind])
            and is_healthy(own, token)
        )

    assert eventually(is_back, 5.0)


@pytest.mark.parametrize("kind", ["usage_sink", "postgres", "redis", "control"])
def test_no_row_is_lost_when_a_service_dies(own: Stack, kind: str) -> None:
    user = a_user()
    token = own.token(user, "admin")
    wanted = set()
    for number in range(40):
        if number == 20:
            os.kill(own.pids()[kind][0], signal.SIGKILL)
        # With Redis away authz denies: also such a request is one row.
        response = own.get("/api/credits/balance", token)
        wanted.add(response.headers["x-request-id"])

    def missing() -> set[str] | None:
        try:
            answer = own.get("/api/usage/logs", token, params={"limit": 200})
            found = [item["id"] for item in answer.json()["items"]]
        except (httpx.TransportError, KeyError):
            return wanted
        assert len(found) == len(set(found))
        return wanted - set(found)

    assert eventually(lambda: missing() == set(), 15.0, pause_s=0.3)


def test_a_killed_decider_costs_no_client_an_error(own: Stack) -> None:
    token = own.token(role="admin")
    statuses = []
    for kind in ("authz", "ratelimit"):
        os.kill(own.pids()[kind][0], signal.SIGKILL)
        statuses += [own.get("/api/users/me", token).status_code for _ in range(20)]

    assert set(statuses) == {200}


def test_a_stopped_stack_leaves_no_process_and_keeps_its_data(tmp_path: Path) -> None:
    first = start_stack(tmp_path)
    user_token = first.ready["tokens"]["user"]
    route = {"id": "kept", "prefix": "/api/kept", "service": "core-service"}
    put = first.control("PUT", "routes/kept", route)
    revoked = first.command("revoke", user_token)
    status = first.stop(signal.SIGINT)
    left = processes_of(tmp_path)

    second = start_stack(tmp_path)
    kept = second.control("GET", "routes/kept")
    denied = second.get("/api/users/me", user_token)
    second_status = second.stop(signal.SIGTERM)

    assert (put.status_code, revoked.returncode) == (200, 0)
    assert (status, second_status) == (0, 0)
    assert left == {}
    assert kept.status_code == 200
    assert denied.json()["code"] == "TOKEN_REVOKED"


def test_a_killed_supervisor_leaves_no_process(tmp_path: Path) -> None:
    stack = start_stack(tmp_path)
    stack.kill()

    eventually(lambda: not processes_of(tmp_path), 15.0)
    again = start_stack(tmp_path)
    status = again.get("/health").status_code

    assert status == 200
    assert again.stop() == 0


def test_the_token_command_prints_a_working_token_and_nothing_else(own: Stack) -> None:
    done = own.command("token", "--user", "cli-user", "--role", "user", "--ttl", "60")
    token = done.stdout.removesuffix("\n")

    assert (done.returncode, done.stderr) == (0, "")
    assert token.count(".") == 2
    assert "\n" not in token
    assert own.get("/api/users/me", token).json()["id"] == "cli-user"


def test_the_command_exists_where_make_installs_it() -> None:
    assert HUBGATE.exists()
