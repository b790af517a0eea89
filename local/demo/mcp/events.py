"""Server-sent events, one at a time."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final

from fastapi.responses import StreamingResponse

DONE: Final = "data: [DONE]\n\n"


def event(data: Mapping[str, Any], name: str | None = None) -> str:
    """One event, named where the provider names its events."""
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n"


def stream(events: Iterable[str], interval_ms: int) -> StreamingResponse:
    """Send events as they are made, pausing before each but the first."""

    async def paced() -> AsyncIterator[str]:
        for index, one in enumerate(events):
            if index:
                await asyncio.sleep(interval_ms / 1000)
            yield one

    return StreamingResponse(
        paced(), media_type="text/event-stream", headers={"cache-control": "no-cache"}
    )
