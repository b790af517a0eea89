"""Messages as Anthropic's API answers them."""

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
from local.demo.mcp.events import event, stream
from local.demo.text import Text

MODELS: Final = (
    "claude-3-haiku-20240307",
    "claude-haiku-4-5",
    "claude-sonnet-4-5",
    "claude-sonnet-4-6",
    "claude-opus-4-5",
)
_KINDS: Final = {404: "not_found_error", 405: "not_found_error"}


class Message(BaseModel):
    """One turn of the conversation."""

    role: Literal["user", "assistant"]
    content: words.Content


class MessageRequest(BaseModel):
    """The part of the request that the demo obeys; the rest is ignored."""

    model: Text
    max_tokens: int = Field(ge=1)
    messages: list[Message] = Field(min_length=1)
    system: words.Content = None
    stream: bool = False
    hubgate_demo: words.DemoControls = words.DemoControls()

    @property
    def answer(self) -> words.Answer:
        last = self.messages[-1].content
        return words.answer(last, self.hubgate_demo, self.max_tokens)


def create_app() -> FastAPI:
    """Messages; to be mounted under a prefix."""
    app = FastAPI(title="anthropic", openapi_url=None)
    _answer_like_anthropic(app)

    @app.post("/v1/messages")
    async def messages(body: MessageRequest) -> Response:
        if body.model not in MODELS:
            return _error(404, "not_found_error", f"model: {body.model[:100]}")
        if body.stream:
            return stream(_stream(body), body.hubgate_demo.event_interval_ms)
        answer = body.answer
        content = [{"type": "text", "text": answer.text}]
        message = _message(body, content, len(answer.words))
        return JSONResponse({**message, "stop_reason": _stop_reason(answer)})

    return app


def _message(
    body: MessageRequest, content: list[dict[str, str]], output_tokens: int
) -> dict[str, Any]:
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": body.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        # Unlike OpenAI's, `input_tokens` leaves out what came from the cache.
        "usage": {
            "input_tokens": sum(words.count(one.content) for one in body.messages),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": words.count(body.system),
            "output_tokens": output_tokens,
        },
    }


def _stream(body: MessageRequest) -> Iterator[str]:
    answer = body.answer

    def send(name: str, **data: object) -> str:
        return event({"type": name, **data}, name)

    # The first event counts one output token already; the count in `message_delta`
    # is the whole, not what is to be added.
    yield send("message_start", message=_message(body, [], 1))
    block = {"type": "text", "text": ""}
    yield send("content_block_start", index=0, content_block=block)
    yield send("ping")
    for piece in answer.pieces:
        delta = {"type": "text_delta", "text": piece}
        yield send("content_block_delta", index=0, delta=delta)
    yield send("content_block_stop", index=0)
    yield send(
        "message_delta",
        delta={"stop_reason": _stop_reason(answer), "stop_sequence": None},
        usage={"output_tokens": len(answer.words)},
    )
    yield send("message_stop")


def _stop_reason(answer: words.Answer) -> str:
    return "max_tokens" if answer.cut else "end_turn"


def _error(status: int, kind: str, message: str) -> JSONResponse:
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return JSONResponse(body, status)


def _answer_like_anthropic(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _error(400, "invalid_request_error", describe(error))

    @app.exception_handler(HTTPException)
    async def _refused(_: Request, error: HTTPException) -> JSONResponse:
        kind = _KINDS.get(error.status_code, "invalid_request_error")
        return _error(error.status_code, kind, error.detail)
