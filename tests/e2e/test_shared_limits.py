"""Two gateways on one Redis and one PostgreSQL are one gateway to a caller.

The second asks authz and ratelimit one after the other, processes of their own.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from functools import partial

import httpx
import pytest

from tests.e2e.recorder import probe_route, recording
from tests.e2e.stack import Stack, eventually, limits_of, running_stack
from tests.e2e.test_faults import frozen

pytestmark = pytest.mark.e2e

#: As many as a small machine decides in time: what Envoy gives up counts twice.
AT_A_TIME = 10


@pytest.fixture(scope="module")
def second(
    broken_before: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """With its own Envoy and sidecars, and the stores of the first."""
    shared = {
        "HUBGATE_REDIS_URL": broken_before.ready["redis_url"],
        "HUBGATE_DATABASE_URL": broken_before.ready["database_url"],
        "HUBGATE_JWT_SECRET_FILE": str(broken_before.data_dir / "jwt.secret"),
        "HUBGATE_NODE_ID": "second",
        "HUBGATE_DECISION_CALLS": "two",
    }
    with running_stack(tmp_path_factory.mktemp("second"), env=shared) as one:
        yield one


@pytest.fixture
def pair(own: Stack, second: Stack) -> tuple[Stack, Stack]:
    return own, second


def test_a_given_server_is_used_instead_of_an_embedded_one(
    pair: tuple[Stack, Stack],
) -> None:
    first, second = pair

    assert second.pids()["redis"] == second.pids()["postgres"] == []
    assert second.get("/api/users/me", first.token()).status_code == 200


def is_limited(stack: Stack, path: str, token: str) -> bool:
    return limits_of(lambda: stack.get(path, token)) == {"5"}


async def _burst(stacks: tuple[Stack, Stack], path: str, token: str) -> list[int]:
    headers = {"authorization": f"Bearer {token}"}
    limits = httpx.Limits(max_connections=AT_A_TIME)
    async with httpx.AsyncClient(timeout=30, limits=limits) as client:
        answers = await asyncio.gather(
            *(
                client.get(stacks[number % 2].gateway + path, headers=headers)
                for number in range(100)
            )
        )
    return [one.status_code for one in answers]


def test_exactly_five_of_a_hundred_pass_a_limit_of_five(
    pair: tuple[Stack, Stack],
) -> None:
    """Over two Envoys and four processes that count, many at a time."""
    first, second = pair
    limit = {"requests": 5, "per": "minute"}
    with (
        recording() as upstream,
        probe_route(first, upstream, rate_limit=limit) as path,
    ):
        token, another = first.token(), first.token()
        # The second gateway takes the change from the first one's revision.
        eventually(lambda: second.get(path).status_code == 401, 5.0)
        for one in pair:
            eventually(partial(is_limited, one, path, another), 10.0)
        before = len(upstream.seen)
        statuses = asyncio.run(_burst(pair, path, token))

        assert Counter(statuses) == {200: 5, 429: 95}
        assert len(upstream.seen) - before == 5


def test_a_token_revoked_at_one_gateway_is_denied_at_the_other(
    pair: tuple[Stack, Stack],
) -> None:
    first, second = pair
    token = first.token()
    assert second.get("/api/users/me", token).status_code == 200
    assert first.command("revoke", token).returncode == 0

    denied = eventually(
        lambda: second.get("/api/users/me", token).status_code == 401, 2.0, 0.01
    )
    assert denied


def test_by_two_calls_client_and_ledger_are_told_the_same(
    pair: tuple[Stack, Stack],
) -> None:
    _, apart = pair
    token = apart.token()
    answers = [apart.get("/api/users/me", token) for _ in range(61)]
    denied = answers[-1]
    path = f"explain/{denied.headers['x-request-id']}"

    def explained() -> bool:
        return apart.control("GET", path).status_code == 200

    eventually(explained, 10.0)
    story = apart.control("GET", path).json()

    assert answers[0].headers["ratelimit-remaining"] == "59"
    assert denied.status_code == 429
    assert denied.headers["retry-after"] == denied.headers["ratelimit-reset"]
    assert denied.json()["code"] == "RATE_LIMIT_EXCEEDED"
    assert story["verdict"] == {
        "outcome": "limited",
        "status": 429,
        "isAdmitted": False,
        "reason": "token",
        "decidedBy": "ratelimit",
    }
    assert story["limits"][0]["rule"] == "role user: 60 requests per 60 s"


def test_by_two_calls_each_service_has_processes_of_its_own(
    pair: tuple[Stack, Stack],
) -> None:
    _, apart = pair
    pids = apart.pids()

    assert len({*pids["authz"], *pids["ratelimit"]}) == 4


def test_while_one_of_two_ratelimits_is_frozen_its_sibling_answers(
    pair: tuple[Stack, Stack],
) -> None:
    _, apart = pair
    token = apart.token(role="manager")
    with frozen(apart.pids()["ratelimit"][0]):
        answers = [apart.get("/api/users/me", token) for _ in range(10)]

    assert {one.status_code for one in answers} == {200}


def test_while_both_ratelimits_are_frozen_requests_pass(
    pair: tuple[Stack, Stack],
) -> None:
    _, apart = pair
    token = apart.token()
    eventually(lambda: apart.get("/api/users/me", token).status_code == 200, 5.0)
    first, second = apart.pids()["ratelimit"]
    with frozen(first), frozen(second):
        answer = apart.get("/api/users/me", token)

    assert answer.status_code == 200

    def is_limited_again() -> bool:
        return "ratelimit-limit" in apart.get("/api/users/me", token).headers

    eventually(is_limited_again, 5.0)


def test_a_killed_authz_or_ratelimit_costs_no_client_an_error(
    pair: tuple[Stack, Stack],
) -> None:
    _, apart = pair
    token = apart.token(role="admin")
    statuses = set()
    for kind in ("authz", "ratelimit"):
        os.kill(apart.pids()[kind][0], signal.SIGKILL)
        for _ in range(20):
            statuses.add(apart.get("/api/users/me", token).status_code)

    assert statuses == {200}
