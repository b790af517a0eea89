"""What AI providers answer, and a server that sends it in pieces of any size."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

OPENAI_USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 40,
    "total_tokens": 140,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 30},
}
RESPONSES_USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 64},
    "output_tokens": 40,
    "output_tokens_details": {"reasoning_tokens": 30},
    "total_tokens": 140,
}
#: Cached tokens beside the input.
ANTHROPIC_USAGE = {
    "input_tokens": 30,
    "cache_read_input_tokens": 64,
    "cache_creation_input_tokens": 6,
    "output_tokens": 40,
}
#: Thoughts beside the output, the tools' prompts beside the input.
GEMINI_USAGE = {
    "promptTokenCount": 96,
    "toolUsePromptTokenCount": 4,
    "cachedContentTokenCount": 64,
    "candidatesTokenCount": 10,
    "thoughtsTokenCount": 30,
    "totalTokenCount": 140,
}

JSON: dict[str, dict[str, Any]] = {
    "openai": {
        "id": "c",
        "object": "chat.completion",
        "model": "gpt-5",
        "choices": [{"index": 0, "message": {"content": 'hi \\ " } ] é'}}],
        "usage": OPENAI_USAGE,
    },
    "responses": {
        "id": "r",
        "object": "response",
        "model": "gpt-5",
        "status": "completed",
        "output": [],
        "usage": RESPONSES_USAGE,
    },
    "anthropic": {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5",
        "content": [{"type": "text", "text": "hi"}],
        "usage": ANTHROPIC_USAGE,
    },
    "gemini": {
        "candidates": [{"content": {"parts": [{"text": "hi"}]}}],
        "modelVersion": "gemini-3-pro",
        "usageMetadata": GEMINI_USAGE,
    },
}


def _chunk(**parts: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "model": "gpt-5", "choices": [], **parts}


_SAYS: dict[str, list[dict[str, Any] | str]] = {
    "openai": [
        _chunk(choices=[{"delta": {"content": "h"}}], usage=None),
        _chunk(choices=[{"delta": {}, "finish_reason": "stop"}], usage=None),
        _chunk(usage=OPENAI_USAGE),
        "[DONE]",
    ],
    "responses": [
        {
            "type": "response.created",
            "response": {"object": "response", "model": "gpt-5", "usage": None},
        },
        {"type": "response.output_text.delta", "delta": "h"},
        {
            "type": "response.completed",
            "response": {**JSON["responses"], "usage": RESPONSES_USAGE},
        },
    ],
    "anthropic": [
        {
            "type": "message_start",
            "message": {
                **JSON["anthropic"],
                "content": [],
                "usage": {**ANTHROPIC_USAGE, "output_tokens": 1},
            },
        },
        {"type": "content_block_delta", "index": 0, "delta": {"text": "h"}},
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 40}},
        {"type": "message_stop"},
    ],
    "gemini": [
        {
            **JSON["gemini"],
            "usageMetadata": {"promptTokenCount": 96, "totalTokenCount": 96},
        },
        {
            **JSON["gemini"],
            "candidates": [{"content": {}, "finishReason": "STOP"}],
        },
    ],
}


def _event(said: dict[str, Any] | str) -> bytes:
    if isinstance(said, str):
        return f"data: {said}\n\n".encode()
    name = f"event: {said['type']}\n" if "type" in said else ""
    return f"{name}data: {json.dumps(said)}\n\n".encode()


EVENTS: dict[str, list[bytes]] = {
    name: [_event(one) for one in said] for name, said in _SAYS.items()
}


class Ending(Enum):
    """How the server's part of an answer ends."""

    WHOLE = "as HTTP says"
    RESET = "the connection is reset"
    SILENCE = "nothing more is said"


@dataclass
class Answer:
    """Sent piece by piece, each when the client has had the one before."""

    pieces: list[bytes]
    content_type: str = "application/json"
    ending: Ending = Ending.WHOLE
    headers: dict[str, str] = field(default_factory=dict)
    #: As many permits as pieces that the client has received.
    received: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))


@dataclass
class Provider:
    """Answers by path; keeps the bodies of requests."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: dict[str, bytes] = field(default_factory=dict)
    port: int = 0

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        path = head.split(" ", 2)[1].partition("?")[0]
        lengths = [
            int(line.partition(":")[2])
            for line in head.splitlines()
            if line.startswith("content-length:")
        ]
        self.asked[path] = await reader.readexactly(sum(lengths))
        answer = self.answers[path]
        await self._send(answer, writer)
        if answer.ending is Ending.SILENCE:
            await reader.read(1)  # until the gateway hangs up
        if answer.ending is Ending.RESET:
            writer.transport.abort()
        return answer.ending is Ending.WHOLE

    async def _send(self, answer: Answer, writer: asyncio.StreamWriter) -> None:
        headers = {
            "content-type": answer.content_type,
            "transfer-encoding": "chunked",
            **answer.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode())
        for number, piece in enumerate(answer.pieces):
            if number:
                await answer.received.acquire()
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        if answer.ending is Ending.WHOLE:
            writer.write(b"0\r\n\r\n")
        elif answer.pieces:
            # A reset overtakes what is still on its way.
            await answer.received.acquire()
        await writer.drain()


@asynccontextmanager
async def a_provider() -> AsyncIterator[Provider]:
    provider = Provider()
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    provider.port = server.sockets[0].getsockname()[1]
    try:
        yield provider
    finally:
        server.close()
