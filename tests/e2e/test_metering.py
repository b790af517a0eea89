"""What was used is in the ledger within two seconds, and only its owner sees it."""

import json
from typing import Any

import httpx
import pytest

from tests.e2e.stack import Stack, a_user, eventually

pytestmark = pytest.mark.e2e

OPENAI = "/api/mcp/openai/v1/chat/completions"
ANTHROPIC = "/api/mcp/anthropic/v1/messages"
MESSAGES = [{"role": "user", "content": "one two three four five"}]


def chat(stack: Stack, token: str, path: str, **body: Any) -> httpx.Response:
    response = stack.request("POST", path, token, json={"messages": MESSAGES, **body})
    assert response.status_code == 200, response.text
    return response


def row_of(stack: Stack, token: str, request_id: str) -> dict[str, Any]:
    """The caller's own row of that request; within two seconds."""

    def look() -> dict[str, Any] | None:
        answer = stack.get("/api/usage/logs", token)
        assert answer.status_code == 200, answer.text
        for item in answer.json()["items"]:
            if item["id"] == request_id:
                return dict(item)
        return None

    found = eventually(look, 10.0, pause_s=0.2)
    assert found is not None
    return found


def sse(response: httpx.Response) -> list[dict[str, Any]]:
    return [
        json.loads(line.removeprefix("data:"))
        for line in response.text.splitlines()
        if line.startswith("data:") and "[DONE]" not in line
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
def test_an_openai_call_is_metered_as_the_provider_counted(
    stack: Stack, *, stream: bool
) -> None:
    token = stack.token(user := a_user())
    body: dict[str, Any] = {"model": "gpt-4o", "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    response = chat(stack, token, OPENAI, **body)
    usage = sse(response)[-1]["usage"] if stream else response.json()["usage"]
    row = row_of(stack, token, response.headers["x-request-id"])

    assert (row["userId"], row["service"], row["model"]) == (user, "openai", "gpt-4o")
    assert row["inputTokens"] == usage["prompt_tokens"]
    assert row["outputTokens"] == usage["completion_tokens"]
    assert row["tokens"] == usage["total_tokens"]
    assert row["usageSource"] == "provider"
    _check_common(row, len(response.content))


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
def test_an_anthropic_call_is_metered_as_the_provider_counted(
    stack: Stack, *, stream: bool
) -> None:
    token = stack.token(user := a_user())
    model = "claude-haiku-4-5"
    response = chat(stack, token, ANTHROPIC, model=model, max_tokens=100, stream=stream)
    if stream:
        events = sse(response)
        incoming = events[0]["message"]["usage"]["input_tokens"]
        (outgoing,) = [
            one["usage"]["output_tokens"]
            for one in events
            if one["type"] == "message_delta"
        ]
    else:
        incoming = response.json()["usage"]["input_tokens"]
        outgoing = response.json()["usage"]["output_tokens"]
    row = row_of(stack, token, response.headers["x-request-id"])

    assert (row["userId"], row["service"], row["model"]) == (user, "claude", model)
    assert (row["inputTokens"], row["outputTokens"]) == (incoming, outgoing)
    assert row["tokens"] == incoming + outgoing
    _check_common(row, len(response.content))


def _check_common(row: dict[str, Any], size: int) -> None:
    assert (row["pricing"], row["credits"] >= 1) == ("priced", True)
    assert (row["status"], row["outcome"]) == (200, "ok")
    assert row["durationMs"] >= 0
    assert row["bytesSent"] >= size
    assert row["bytesReceived"] > 0
    metadata = row["metadata"]
    assert metadata["request"]["method"] == "POST"
    assert metadata["response"]["statusCode"] == 200
    assert float(metadata["billing"]["totalCost"]) > 0


def test_a_job_is_metered_as_its_upstream_reports_it(stack: Stack) -> None:
    token = stack.token()
    job = {"prompt": "a cat", "seconds": 4}
    response = stack.request("POST", "/api/mcp/sora2/jobs", token, json=job)
    row = row_of(stack, token, response.headers["x-request-id"])

    assert response.status_code == 202
    assert (row["service"], row["model"]) == ("sora2", "sora2-video")
    assert row["credits"] == int(response.headers["x-usage-credits"])
    assert row["pricing"] == "reported"


def test_a_call_without_ai_is_a_row_of_its_service_and_free(stack: Stack) -> None:
    token = stack.token()
    response = stack.get("/api/users/me", token)
    row = row_of(stack, token, response.headers["x-request-id"])

    assert (row["service"], row["model"]) == ("core-service", None)
    assert (row["tokens"], row["credits"], row["pricing"]) == (0, 0, "free")


def test_another_user_does_not_see_the_row(stack: Stack) -> None:
    owner, other = stack.token(user := a_user()), stack.token()
    response = chat(stack, owner, OPENAI, model="gpt-4o")
    row_of(stack, owner, response.headers["x-request-id"])
    own = stack.get("/api/usage/logs", other).json()["items"]
    asked = stack.get("/api/usage/logs", other, params={"userId": user})

    assert response.headers["x-request-id"] not in {item["id"] for item in own}
    assert asked.status_code == 403
    assert asked.json()["code"] == "FORBIDDEN"


def test_an_administrator_sees_everyones_rows(stack: Stack) -> None:
    token = stack.token(user := a_user())
    response = chat(stack, token, OPENAI, model="gpt-4o")
    row_of(stack, token, response.headers["x-request-id"])
    admin = stack.token(role="admin")
    answer = stack.get("/api/usage/logs", admin, params={"userId": user})

    assert {item["userId"] for item in answer.json()["items"]} == {user}


def test_a_denied_request_is_a_row_too(stack: Stack) -> None:
    response = stack.get("/api/users/me")
    wanted = response.headers["x-request-id"]
    admin = stack.token(role="admin")

    def look() -> list[dict[str, Any]]:
        answer = stack.get("/api/usage/logs", admin, params={"limit": 200})
        return [one for one in answer.json()["items"] if one["id"] == wanted]

    (row,) = eventually(look, 10.0, pause_s=0.2)
    assert (row["status"], row["outcome"], row["userId"]) == (401, "denied", None)


def test_no_token_ever_enters_the_ledger_or_a_log(stack: Stack) -> None:
    token = stack.token()
    response = stack.get("/api/users/me", token, params={"token": token})
    row_of(stack, token, response.headers["x-request-id"])
    signature = token.rpartition(".")[2]
    logs = [stack.log, *(stack.data_dir / "logs").iterdir()]
    rows = stack.get("/api/usage/logs", token).text

    assert signature not in rows
    assert [log.name for log in logs if signature in log.read_text("latin-1")] == []


def test_a_stream_without_usage_is_marked_and_never_free(stack: Stack) -> None:
    """OpenAI sends no usage in a stream unless asked to."""
    token = stack.token()
    response = chat(stack, token, OPENAI, model="gpt-4o", stream=True)
    row = row_of(stack, token, response.headers["x-request-id"])

    assert "usage" not in sse(response)[-1]
    assert row["usageSource"] in {"partial", "absent"}
    assert row["pricing"] == "unpriced"
