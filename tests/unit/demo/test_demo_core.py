"""core-service, asked over ASGI as the gateway would."""

import httpx
import pytest

from local.demo.core import (
    START_BALANCE,
    Balances,
    CoreDeps,
    InsufficientCreditsError,
    create_app,
)

ALICE = {"x-user-id": "alice", "x-user-role": "user", "x-request-id": "r-1"}


def client(headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(CoreDeps()))
    return httpx.AsyncClient(
        transport=transport,
        base_url="http://core",
        headers=ALICE if headers is None else headers,
    )


async def test_me_shows_the_identity_headers_that_arrived() -> None:
    async with client() as core:
        trace = {"traceparent": "00-abc-def-01", "x-other": "no"}
        answer = await core.get("/api/users/me", headers=trace)
    assert answer.json() == {
        "id": "alice",
        "role": "user",
        "requestId": "r-1",
        "headers": {**ALICE, "traceparent": "00-abc-def-01"},
    }


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("alice", 200, {"id": "alice", "role": "user"}),
        ("demo-admin", 200, {"id": "demo-admin", "role": "admin"}),
        ("bob", 404, {"code": "USER_NOT_FOUND", "message": "There is no such user"}),
    ],
)
async def test_a_user_is_the_caller_a_demo_account_or_404(
    path: str, status: int, body: dict[str, str]
) -> None:
    async with client() as core:
        answer = await core.get(f"/api/users/{path}")
    assert (answer.status_code, answer.json()) == (status, body)


@pytest.mark.parametrize("path", ["users/me", "users/bob", "credits/balance"])
async def test_a_request_past_the_gateway_is_nobodys(path: str) -> None:
    async with client({}) as core:
        answer = await core.get(f"/api/{path}")
    assert answer.status_code == 401
    assert answer.json()["code"] == "IDENTITY_MISSING"


async def test_a_deduction_shows_in_the_balance_of_that_user_alone() -> None:
    async with client() as core:
        answer = await core.post("/api/credits/deduct", json={"amount": 250})
        mine = await core.get("/api/credits/balance")
        others = await core.get("/api/credits/balance", headers={"x-user-id": "bob"})
    assert answer.json() == mine.json()
    assert mine.json() == {"userId": "alice", "balance": START_BALANCE - 250}
    assert others.json() == {"userId": "bob", "balance": START_BALANCE}


async def test_a_deduction_beyond_the_balance_changes_nothing() -> None:
    async with client() as core:
        body = {"amount": START_BALANCE + 1}
        answer = await core.post("/api/credits/deduct", json=body)
        balance = await core.get("/api/credits/balance")
    assert answer.status_code == 402
    assert answer.json()["code"] == "INSUFFICIENT_CREDITS"
    assert balance.json()["balance"] == START_BALANCE


@pytest.mark.parametrize("amount", [0, -1, 1.5, "1", None, True])
async def test_an_amount_that_is_no_positive_whole_number_is_422(
    amount: object,
) -> None:
    async with client() as core:
        answer = await core.post("/api/credits/deduct", json={"amount": amount})
    assert answer.status_code == 422
    assert answer.json()["code"] == "VALIDATION_FAILED"


async def test_health_answers_without_an_identity() -> None:
    async with client({}) as core:
        answer = await core.get("/health")
    assert answer.json() == {"status": "ok", "service": "core-service"}


def test_balances_forget_whoever_was_seen_longest_ago() -> None:
    balances = Balances(capacity=2)
    for user in ("a", "b", "a", "c"):
        balances.deduct(user, 1)
    assert balances.balance("a") == START_BALANCE - 2
    assert balances.balance("b") == START_BALANCE
    assert balances.balance("c") == START_BALANCE - 1


def test_a_refused_deduction_is_not_remembered() -> None:
    balances = Balances(capacity=1)
    balances.deduct("a", 1)
    with pytest.raises(InsufficientCreditsError):
        balances.deduct("b", START_BALANCE + 1)
    assert balances.balance("a") == START_BALANCE - 1
