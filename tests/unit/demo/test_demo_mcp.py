"""mcp-server, asked over ASGI: what no client library would send or show."""

import json

import httpx
import pytest

from local.demo.mcp import anthropic, openai
from local.demo.mcp.app import McpDeps, create_app
from local.demo.mcp.sora2 import Job, JobRequest, Jobs
from local.demo.mcp.words import Content, DemoControls, Part, answer, count
from runtime.clock import FakeClock

ALICE = {"x-user-id": "alice", "x-user-role": "user"}
USER_MESSAGE = {"role": "user", "content": "one two"}


def client(clock: FakeClock | None = None) -> httpx.AsyncClient:
    app = create_app(McpDeps(clock=clock or FakeClock()))
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(
        transport=transport, base_url="http://mcp/api/mcp/", headers=ALICE
    )


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        (None, 0),
        ("", 0),
        ("  one\ttwo\n three ", 3),
        ([Part(type="text", text="one two"), Part(type="image", text="three")], 2),
        ([], 0),
    ],
)
def test_a_token_is_a_word(content: Content, tokens: int) -> None:
    assert count(content) == tokens


def test_an_answers_pieces_joined_are_its_text() -> None:
    said = answer("a  b", DemoControls(), None)
    assert "".join(said.pieces) == said.text == "You said: a b"
    assert len(said.pieces) == len(said.words) == 4
    assert not said.cut


@pytest.mark.parametrize(
    ("limit", "length", "cut"), [(1, 1, True), (4, 4, False), (9, 4, False)]
)
def test_an_answer_keeps_to_the_callers_limit(
    limit: int,
    length: int,
    cut: bool,  # noqa: FBT001 - a column of the table
) -> None:
    said = answer("a b", DemoControls(), limit)
    assert (len(said.words), said.cut) == (length, cut)


def test_an_answer_is_as_long_as_a_test_asks() -> None:
    assert answer("a", DemoControls(completion_tokens=0), 5).words == []
    assert len(answer("a", DemoControls(completion_tokens=7), None).words) == 7


async def test_openai_names_an_unknown_model_as_openai_does() -> None:
    body = {"model": "gpt-0", "messages": [USER_MESSAGE]}
    async with client() as mcp:
        answer = await mcp.post("openai/v1/chat/completions", json=body)
    assert answer.status_code == 404
    assert answer.json() == {
        "error": {
            "message": "The model `gpt-0` does not exist",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }


async def test_anthropic_names_an_unknown_model_as_anthropic_does() -> None:
    body = {"model": "claude-0", "messages": [USER_MESSAGE], "max_tokens": 5}
    async with client() as mcp:
        answer = await mcp.post("anthropic/v1/messages", json=body)
    assert answer.status_code == 404
    assert answer.json() == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "model: claude-0"},
    }


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("openai/v1/chat/completions", {"model": openai.MODELS[0], "messages": []}),
        ("anthropic/v1/messages", {"model": anthropic.MODELS[0], "messages": []}),
        ("openai/v1/chat/completions", None),
        ("anthropic/v1/messages", None),
    ],
)
async def test_a_malformed_request_is_400_in_the_providers_shape(
    path: str, body: object
) -> None:
    async with client() as mcp:
        answer = await mcp.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_an_unknown_path_is_404_in_the_providers_shape(provider: str) -> None:
    async with client() as mcp:
        answer = await mcp.get(f"{provider}/v1/nothing")
    assert answer.status_code == 404
    assert "message" in answer.json()["error"]


@pytest.mark.parametrize(
    "path", ["openai/v1/chat/completions", "anthropic/v1/messages"]
)
async def test_a_body_that_is_no_json_is_400_in_the_providers_shape(path: str) -> None:
    headers = {"content-type": "application/json"}
    async with client() as mcp:
        answer = await mcp.post(path, content=b"\xff", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


LONE_SURROGATE = rb'{"type":"text","text":"\ud800"}'


@pytest.mark.parametrize(
    ("path", "head"),
    [
        ("openai/v1/chat/completions", rb'{"model":"gpt-4o"'),
        ("anthropic/v1/messages", rb'{"model":"claude-haiku-4-5","max_tokens":9'),
    ],
)
async def test_text_that_is_no_unicode_is_400_not_a_crash(
    path: str, head: bytes
) -> None:
    turn = b'{"role":"user","content":[' + LONE_SURROGATE + b"]}"
    body = head + b',"messages":[' + turn + b"]}"
    headers = {"content-type": "application/json"}
    async with client() as mcp:
        answer = await mcp.post(path, content=body, headers=headers)
    assert answer.status_code == 400


async def test_openai_speaks_of_usage_in_every_chunk_once_asked_and_never_else() -> (
    None
):
    body: dict[str, object] = {
        "model": "gpt-4o",
        "messages": [USER_MESSAGE],
        "stream": True,
    }
    asking = {**body, "stream_options": {"include_usage": True}}
    async with client() as mcp:
        plain = await mcp.post("openai/v1/chat/completions", json=body)
        asked = await mcp.post("openai/v1/chat/completions", json=asking)
    assert plain.headers["content-type"].startswith("text/event-stream")
    assert "usage" not in plain.text
    chunks = [
        json.loads(line.removeprefix("data: "))
        for line in asked.text.splitlines()
        if line.startswith("data: {")
    ]
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["usage"]["total_tokens"] == 2 + 4
    assert asked.text.endswith("data: [DONE]\n\n")


async def test_an_anthropic_event_is_named_as_its_type_says() -> None:
    body = {
        "model": "claude-haiku-4-5",
        "messages": [USER_MESSAGE],
        "max_tokens": 50,
        "stream": True,
    }
    async with client() as mcp:
        answer = await mcp.post("anthropic/v1/messages", json=body)
    blocks = [block.splitlines() for block in answer.text.strip().split("\n\n")]
    names = [head.removeprefix("event: ") for head, _ in blocks]
    types = [json.loads(data.removeprefix("data: "))["type"] for _, data in blocks]
    assert names == types
    assert names == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * 4,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


async def test_a_video_job_is_accepted_and_billed_by_headers() -> None:
    async with client() as mcp:
        body = {"prompt": "a lighthouse", "seconds": 8}
        accepted = await mcp.post("sora2/jobs", json=body)
        shown = await mcp.get(f"sora2/jobs/{accepted.json()['id']}")
    assert accepted.status_code == 202
    assert accepted.json()["status"] == "queued"
    assert accepted.headers["x-usage-service"] == "sora2"
    assert accepted.headers["x-usage-model"] == "sora2-video"
    assert accepted.headers["x-usage-credits"] == "80"
    assert shown.json() == accepted.json()
    assert not [name for name in shown.headers if name.startswith("x-usage-")]


async def test_a_video_job_takes_as_long_as_its_video() -> None:
    clock = FakeClock()
    async with client(clock) as mcp:
        body = {"prompt": "a lighthouse", "seconds": 3}
        job = (await mcp.post("sora2/jobs", json=body)).json()["id"]
        seen = []
        for _ in range(3):
            seen.append((await mcp.get(f"sora2/jobs/{job}")).json()["status"])
            clock.advance(2)
    assert seen == ["queued", "in_progress", "completed"]


async def test_anothers_video_job_does_not_exist() -> None:
    async with client() as mcp:
        job = (await mcp.post("sora2/jobs", json={"prompt": "p"})).json()["id"]
        answer = await mcp.get(f"sora2/jobs/{job}", headers={"x-user-id": "bob"})
    assert answer.status_code == 404
    assert answer.json()["code"] == "JOB_NOT_FOUND"


@pytest.mark.parametrize("seconds", [0, 61, "5", 1.5])
async def test_a_video_of_no_sensible_length_is_422(seconds: object) -> None:
    async with client() as mcp:
        answer = await mcp.post("sora2/jobs", json={"prompt": "p", "seconds": seconds})
    assert answer.status_code == 422


def test_jobs_forget_the_oldest() -> None:
    jobs = Jobs(capacity=1)
    for job_id in ("first", "second"):
        jobs.add(Job(job_id, "alice", JobRequest(prompt="p"), 0.0))
    assert jobs.find("first", "alice") is None
    assert jobs.find("second", "alice") is not None


@pytest.mark.parametrize("code", [200, 204, 304, 404, 503, 599])
async def test_status_answers_to_order(code: int) -> None:
    async with client() as mcp:
        answer = await mcp.get(f"status/{code}?delay_ms=1")
    assert answer.status_code == code
    assert answer.content == b"" if code in {204, 304} else answer.json()


@pytest.mark.parametrize("code", ["199", "600", "x"])
async def test_status_refuses_what_is_no_final_status(code: str) -> None:
    async with client() as mcp:
        assert (await mcp.get(f"status/{code}")).status_code == 422
