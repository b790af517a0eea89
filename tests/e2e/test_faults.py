"""What clients see while a part is killed or frozen: DESIGN's failure table."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.clock import SystemClock
from tests.e2e.recorder import probe_route, recording
from tests.e2e.stack import Stack, eventually, limits_of

pytestmark = pytest.mark.e2e

CLOCK = SystemClock()


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def passes(stack: Stack, token: str) -> bool:
    return stack.get("/api/users/me", token).status_code == 200


def code_of(stack: Stack, token: str) -> str:
    return str(stack.get("/api/users/me", token).json().get("code"))


def known(stack: Stack, role: str = "manager") -> str:
    """A token that every authz process has just let pass: each keeps its own."""
    token = stack.token(role=role)
    eventually(lambda: {passes(stack, token) for _ in range(20)} == {True}, 10.0)
    return token


@pytest.mark.alone
def test_with_redis_frozen_known_tokens_pass_and_are_limited_on_the_spot(
    own: Stack,
) -> None:
    token = known(own)
    with frozen(own.pids()["redis"][0]):
        answers = [own.get("/api/users/me", token) for _ in range(10)]

        assert {one.status_code for one in answers} == {200}
        assert "ratelimit-remaining" in answers[-1].headers
        assert answers[-1].elapsed.total_seconds() < 0.5
    eventually(lambda: passes(own, token), 15.0)


def test_with_redis_frozen_an_unknown_token_is_denied_as_unavailable(
    own: Stack,
) -> None:
    known(own)
    token = own.token()
    with frozen(own.pids()["redis"][0]):
        answer = own.get("/api/users/me", token)

        assert answer.status_code == 503
        assert answer.json()["code"] == "AUTH_UNAVAILABLE"
        assert own.get("/api/users/me").status_code == 401
    eventually(lambda: passes(own, token), 15.0)


def test_with_redis_frozen_the_local_limit_holds_per_process(own: Stack) -> None:
    """Two processes: at most twice the limit passes, and not less."""
    route = {
        "id": "few",
        "prefix": "/api/few",
        "prefix_rewrite": "/api/users/me",
        "service": "core-service",
        "rate_limit": {"requests": 5, "per": "minute"},
    }
    assert own.control("PUT", "routes/few", route).status_code == 200
    another = own.token(role="manager")
    eventually(lambda: limits_of(lambda: own.get("/api/few", another)) == {"5"}, 10.0)
    token = known(own)
    with frozen(own.pids()["redis"][0]):
        statuses = [own.get("/api/few", token).status_code for _ in range(30)]
    own.control("DELETE", "routes/few")

    assert 5 <= statuses.count(200) <= 10
    assert statuses.count(200) + statuses.count(429) == 30


@pytest.mark.alone
def test_a_killed_redis_is_back_with_its_revocations(own: Stack) -> None:
    token, revoked = known(own), own.token()
    assert own.command("revoke", revoked).returncode == 0
    os.kill(own.pids()["redis"][0], signal.SIGKILL)

    eventually(lambda: passes(own, token), 15.0)
    seen: set[str] = set()

    def is_known_again() -> bool:
        """To every authz process."""
        codes = {code_of(own, revoked) for _ in range(10)}
        seen.update(codes)
        return codes == {"TOKEN_REVOKED"}

    assert eventually(is_known_again, 5.0)
    assert seen <= {"TOKEN_REVOKED", "AUTH_UNAVAILABLE"}


@pytest.mark.alone
def test_while_one_of_two_deciders_is_frozen_its_sibling_answers(own: Stack) -> None:
    token = known(own)
    statuses: set[int] = set()

    def is_fast() -> bool:
        started = CLOCK.monotonic()
        statuses.update(own.get("/api/users/me", token).status_code for _ in range(20))
        return CLOCK.monotonic() - started < 1.0

    with frozen(own.pids()["authz"][0]):
        # At first a retry costs time; then the health check leaves it out.
        assert eventually(is_fast, 10.0)

    assert statuses == {200}


def test_while_both_authz_are_frozen_nothing_passes(own: Stack) -> None:
    token = own.token()
    first, second = own.pids()["authz"]
    with frozen(first), frozen(second):
        answer = own.get("/api/users/me", token)

        assert answer.status_code == 503
        assert answer.json()["code"] == "AUTH_UNAVAILABLE"
    eventually(lambda: passes(own, token), 15.0)


def test_while_control_is_frozen_traffic_flows(own: Stack) -> None:
    token = known(own)
    with frozen(own.pids()["control"][0]):
        assert passes(own, token)


def test_while_the_ledger_is_away_traffic_flows_and_nothing_is_lost(
    own: Stack,
) -> None:
    token = known(own)
    with frozen(own.pids()["usage_sink"][0]):
        answers = [own.get("/api/users/me", token) for _ in range(10)]
    wanted = {one.headers["x-request-id"] for one in answers}

    def found() -> bool:
        # Each look is a row itself, and newer than what is looked for.
        answer = own.get("/api/usage/logs", token, params={"limit": 200})
        items = answer.json().get("items", [])
        return wanted <= {item["id"] for item in items}

    assert {one.status_code for one in answers} == {200}
    eventually(found, 30.0, 0.3)


def test_an_instance_that_dies_is_out_without_a_client_error(own: Stack) -> None:
    token = own.token(role="admin")
    with (
        recording("left") as left,
        recording("right") as right,
        probe_route(own, left) as path,
    ):
        name = path.removeprefix("/api/")
        both = [f"127.0.0.1:{left.port}", f"127.0.0.1:{right.port}"]
        put = own.control("PUT", f"services/{name}", {"instances": both})
        assert put.status_code == 200, put.text
        answers = [own.get(path, token) for _ in range(20)]
        used = {one.json()["upstream"] for one in answers}
        assert used == {"left", "right"}
        right.close()
        after = [own.get(path, token) for _ in range(40)]

        assert {one.status_code for one in after} == {200}
        assert {one.json()["upstream"] for one in after} == {"left"}


@pytest.mark.alone
def test_a_frozen_instance_is_left_out_by_its_health_check(own: Stack) -> None:
    token = own.token(role="admin")
    with (
        recording("left") as left,
        recording("right") as right,
        probe_route(own, left, timeout="5s") as path,
    ):
        name = path.removeprefix("/api/")
        service = {
            "instances": [f"127.0.0.1:{left.port}", f"127.0.0.1:{right.port}"],
            "health_check": {"path": "/alive", "interval": "0.5s", "timeout": "0.5s"},
        }
        put = own.control("PUT", f"services/{name}", service)
        assert put.status_code == 200, put.text
        eventually(lambda: right.by_path("/alive"), 15.0)
        right.freeze()

        def only_left() -> bool:
            answers = [own.get(path, token) for _ in range(10)]
            return {one.json().get("upstream") for one in answers} == {"left"}

        assert eventually(only_left, 15.0)
        assert own.get(path, token).elapsed.total_seconds() < 1.0


def test_what_a_fault_leaves_in_the_data_directory_starts_again(own: Stack) -> None:
    """All of the above happened to this stack; it is the same one, and healthy."""
    ready = own.http.get(f"{own.ready['control']}/health/ready").json()

    assert ready["status"] == "ok"
    assert Path(own.ready["data_dir"]).is_dir()
