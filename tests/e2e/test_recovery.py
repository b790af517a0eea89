"""What dies comes back; what is stopped leaves nothing behind."""

import os
import signal

import httpx
import pytest

from tests.e2e.stack import HUBGATE, Stack, a_user, eventually, processes_of

pytestmark = pytest.mark.e2e

#: What is promised of a service that died.
BACK_WITHIN_S = 5.0
#: For rows to be there on a busy machine: not a promise, a deadline.
LOADED_WITHIN_S = 30.0

SERVICES = ["authz", "usage_sink", "control", "envoy", "redis", "postgres"]


@pytest.mark.alone
@pytest.mark.parametrize("kind", SERVICES)
def test_a_killed_service_is_back_within_five_seconds(own: Stack, kind: str) -> None:
    victim = own.pids()[kind][0]
    os.kill(victim, signal.SIGKILL)

    def is_back() -> bool:
        pids = own.pids()[kind]
        return (
            victim not in pids
            and len(pids) == len(own.ready["pids"][kind])
            and own.is_healthy()
        )

    assert eventually(is_back, BACK_WITHIN_S)


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

    assert eventually(lambda: missing() == set(), LOADED_WITHIN_S, pause_s=0.3)


def test_a_killed_decider_costs_no_client_an_error(own: Stack) -> None:
    token = own.token(role="admin")
    os.kill(own.pids()["authz"][0], signal.SIGKILL)
    statuses = {own.get("/api/users/me", token).status_code for _ in range(20)}

    assert statuses == {200}


def test_a_stopped_stack_leaves_no_process_and_keeps_its_data(own: Stack) -> None:
    user_token = own.ready["tokens"]["user"]
    route = {"id": "kept", "prefix": "/api/kept", "service": "core-service"}
    put = own.control("PUT", "routes/kept", route)
    revoked = own.command("revoke", user_token)
    status = own.stop(signal.SIGTERM)
    left = processes_of(own.data_dir)

    own.start()
    kept = own.control("GET", "routes/kept")
    denied = own.get("/api/users/me", user_token)

    # 202: control was killed a moment ago, and Envoy is not back yet.
    assert put.status_code in (200, 202)
    assert revoked.returncode == 0
    assert (status, left) == (0, {})
    assert kept.status_code == 200
    assert denied.json()["code"] == "TOKEN_REVOKED"


def test_a_killed_supervisor_leaves_no_process_and_starts_again(own: Stack) -> None:
    own.kill()

    eventually(lambda: not processes_of(own.data_dir), 30.0)
    own.start()

    assert own.get("/health").status_code == 200


def test_the_token_command_prints_a_working_token_and_nothing_else(own: Stack) -> None:
    done = own.command("token", "--user", "cli-user", "--role", "user", "--ttl", "60")
    token = done.stdout.removesuffix("\n")

    assert (done.returncode, done.stderr) == (0, "")
    assert token.count(".") == 2
    assert "\n" not in token
    assert own.get("/api/users/me", token).json()["id"] == "cli-user"


def test_the_command_exists_where_make_installs_it() -> None:
    assert HUBGATE.exists()
