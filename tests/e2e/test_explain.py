"""A real request explained: what each part of the gateway kept of it."""

from typing import Any

import pytest

from tests.e2e.stack import Stack, a_user, eventually

pytestmark = pytest.mark.e2e

OPENAI = "/api/mcp/openai/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two three"}]}


def explained(stack: Stack, request_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        answer = stack.control("GET", f"explain/{request_id}")
        if answer.status_code == 404:
            return None
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    found = eventually(look, 15.0)
    assert found is not None
    return found


def test_a_call_is_explained_from_its_route_to_its_seal(stack: Stack) -> None:
    token = stack.token(user := a_user())
    answer = stack.request("POST", OPENAI, token, json=BODY)

    story = explained(stack, answer.headers["x-request-id"])

    assert story["route"]["policy"]["prefix"] == "/api/mcp/openai"
    assert story["identity"] == {"userId": user, "role": "user"}
    (limit,) = story["limits"]
    assert limit["limit"] == int(answer.headers["ratelimit-limit"])
    assert limit["remaining"] == int(answer.headers["ratelimit-remaining"])
    assert limit["rule"].startswith("role user")
    assert story["upstream"]["address"].startswith("127.0.0.1:")
    assert 0 <= story["timings"]["firstByteMs"] <= story["timings"]["totalMs"]
    assert story["price"]["arithmetic"]["agrees"] is True
    assert story["price"]["credits"] == story["price"]["arithmetic"]["credits"]
    assert story["seal"]["isLinked"] is True


def test_the_callers_standing_is_that_of_the_last_answer(stack: Stack) -> None:
    token = stack.token(user := a_user())
    stack.request("POST", OPENAI, token, json=BODY)

    # Through the gateway, the question itself is a request under the limit.
    answer = stack.get("/api/usage/me", token)

    body = answer.json()
    assert body["userId"] == user
    assert body["limits"][0]["used"] == 2
    assert body["limits"][0]["remaining"] == int(answer.headers["ratelimit-remaining"])
    balance = stack.get("/api/credits/balance", token).json()["balance"]
    assert body["remainingCredits"] == balance
    assert body["remainingCreditsReason"] is None
