"""mcp-server, put together."""

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import FastAPI, Path, Query
from fastapi.responses import JSONResponse, Response

from local.demo.answers import add_health, answer_in_json
from local.demo.mcp import anthropic, openai
from local.demo.mcp.echo import add_echo
from local.demo.mcp.sora2 import Jobs, add_sora2
from runtime.clock import Clock

_BODILESS: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, 304)


@dataclass(frozen=True, slots=True)
class McpDeps:
    """What mcp-server stands on."""

    clock: Clock
    jobs: Jobs = field(default_factory=Jobs)


def create_app(deps: McpDeps) -> FastAPI:
    """The providers, the jobs, the echo, and answers made to order."""
    app = FastAPI(title="mcp-server", openapi_url=None)
    answer_in_json(app)
    add_health(app, "mcp-server")
    add_sora2(app, deps.jobs, deps.clock)
    add_echo(app)
    _add_status(app)
    app.mount("/api/mcp/openai", openai.create_app(deps.clock))
    app.mount("/api/mcp/anthropic", anthropic.create_app())
    return app


def _add_status(app: FastAPI) -> None:
    @app.get("/api/mcp/status/{code}")
    async def status(
        code: Annotated[int, Path(ge=200, le=599)],
        delay_ms: Annotated[int, Query(ge=0, le=60_000)] = 0,
    ) -> Response:
        await asyncio.sleep(delay_ms / 1000)
        if code in _BODILESS:
            return Response(status_code=code)
        return JSONResponse({"status": code}, code)
