"""Chat completions as OpenAI's API answers them."""

import uuid
from collections.abc import Iterator
from typing import Any, Final, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from local.demo.answers import describe
from local.demo.mcp import words
from local.demo.mcp.events import DONE, event, stream
from local.demo.text import Text
from runtime.clock import Clock

MODELS: Final = ("gpt-4", "gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini")
_CACHED_ROLES: Final = ("system", "developer")
_CREATED: Final = 1_700_000_000


class Message(BaseModel):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: words.Content = None


class StreamOptions(BaseModel):
    """Without `include_usage` a stream says nothing of usage, as at OpenAI."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The part of the request that the demo obeys; the rest is ignored."""

    model: Text
    messages: list[Message] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    n: Literal[1] | None = None
    hubgate_demo: words.DemoControls = words.DemoControls()

    @property
    def answer(self) -> words.Answer:
        limit = self.max_completion_tokens or self.max_tokens
        return words.answer(self.messages[-1].content, self.hubgate_demo, limit)


def create_app(clock: Clock) -> FastAPI:
    """Chat completions and the models; to be mounted under a prefix."""
    app = FastAPI(title="openai", openapi_url=None)
    _answer_like_openai(app)

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest) -> Response:
        if body.model not in MODELS:
            message = f"The model `{body.model[:100]}` does not exist"
            return _error(404, message, "model_not_found", "model")
        head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(clock.now()),
            "model": body.model,
        }
        if body.stream:
            events = _stream(body, head)
            return stream(events, body.hubgate_demo.event_interval_ms)
        return JSONResponse(_completion(body, head))

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        listed = [
            {"id": name, "object": "model", "created": _CREATED, "owned_by": "hubgate"}
            for name in MODELS
        ]
        return {"object": "list", "data": listed}

    return app


def _completion(body: ChatRequest, head: dict[str, Any]) -> dict[str, Any]:
    answer = body.answer
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _finish_reason(answer),
    }
    return {
        **head,
        "object": "chat.completion",
        "choices": [choice],
        "usage": _usage(body, answer),
    }


def _stream(body: ChatRequest, head: dict[str, Any]) -> Iterator[str]:
    answer = body.answer
    options = body.stream_options
    asked = options is not None and options.include_usage
    # OpenAI sends `"usage": null` in every other chunk once usage is asked for.
    head = {**head, "object": "chat.completion.chunk"}
    rest: dict[str, Any] = {"usage": None} if asked else {}

    def chunk(delta: dict[str, str], finish_reason: str | None = None) -> str:
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": None,
            "finish_reason": finish_reason,
        }
        return event({**head, "choices": [choice], **rest})

    yield chunk({"role": "assistant", "content": ""})
    for piece in answer.pieces:
        yield chunk({"content": piece})
    yield chunk({}, _finish_reason(answer))
    if asked:
        yield event({**head, "choices": [], "usage": _usage(body, answer)})
    yield DONE


def _finish_reason(answer: words.Answer) -> str:
    return "length" if answer.cut else "stop"


def _usage(body: ChatRequest, answer: words.Answer) -> dict[str, Any]:
    counts = [(one.role, words.count(one.content)) for one in body.messages]
    prompt = sum(tokens for _, tokens in counts)
    cached = sum(tokens for role, tokens in counts if role in _CACHED_ROLES)
    completion = len(answer.words)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _error(
    status: int, message: str, code: str | None = None, param: str | None = None
) -> JSONResponse:
    error = {
        "message": message,
        "type": "invalid_request_error",
        "param": param,
        "code": code,
    }
    return JSONResponse({"error": error}, status)


def _answer_like_openai(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _error(400, describe(error))

    @app.exception_handler(HTTPException)
    async def _refused(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code in (404, 405):
            message = f"Invalid URL ({request.method} {request.url.path})"
            return _error(error.status_code, message, "unknown_url")
        return _error(error.status_code, error.detail)
