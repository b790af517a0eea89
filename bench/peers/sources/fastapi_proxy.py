"""A gateway as FastAPI's documentation shows its parts; CLIENT: aiohttp or httpx."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import uuid4

import aiohttp
import httpx
import jwt
import redis.asyncio
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from bench.peers.sources import settings

_BASE = f"http://{settings.UPSTREAM[0]}:{settings.UPSTREAM[1]}"
_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "te", "upgrade"}
_CONNECTIONS = 256


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.redis = redis.asyncio.from_url(settings.REDIS_URL)
    app.state.window = app.state.redis.register_script(settings.WINDOW)
    limits = httpx.Limits(
        max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS
    )
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS)
        ) as app.state.aiohttp,
        httpx.AsyncClient(limits=limits) as app.state.httpx,
    ):
        yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(
    CORSMiddleware, allow_origins=[settings.ORIGIN], allow_credentials=True
)


@app.middleware("http")
async def security_headers(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    response.headers.update(settings.SECURITY_HEADERS)
    return response


async def authenticated(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(
            bearer.credentials, settings.SECRET, algorithms=["HS256"]
        )
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, "invalid token") from error
    if await request.app.state.redis.exists(f"bl:{claims['jti']}"):
        raise HTTPException(401, "revoked token")
    return claims


async def limited(
    request: Request, claims: Annotated[dict[str, Any], Depends(authenticated)]
) -> dict[str, Any]:
    limit, seconds = settings.LIMITS[claims["role"]]
    passes, _ = await request.app.state.window(
        keys=[f"rl:{claims['sub']}"], args=[limit, seconds * 1000]
    )
    if not passes:
        raise HTTPException(429, "too many requests")
    return claims


def _onwards(request: Request, claims: dict[str, Any]) -> dict[str, str]:
    headers = {k: v for k, v in request.headers.items() if k not in _HOP}
    return {
        **headers,
        "x-user-id": claims["sub"],
        "x-user-role": claims["role"],
        "x-request-id": str(uuid4()),
    }


async def by_aiohttp(
    request: Request, claims: Annotated[dict[str, Any], Depends(limited)]
) -> StreamingResponse:
    answer = await request.app.state.aiohttp.request(
        request.method,
        f"{_BASE}{request.url.path}",
        params=request.query_params,
        headers=_onwards(request, claims),
        data=await request.body(),
    )

    async def body() -> AsyncIterator[bytes]:
        async with answer:
            async for chunk in answer.content.iter_any():
                yield chunk

    headers = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
    return StreamingResponse(body(), answer.status, headers)


async def by_httpx(
    request: Request, claims: Annotated[dict[str, Any], Depends(limited)]
) -> StreamingResponse:
    client = request.app.state.httpx
    onwards = client.build_request(
        request.method,
        f"{_BASE}{request.url.path}",
        params=request.query_params,
        headers=_onwards(request, claims),
        content=await request.body(),
    )
    answer = await client.send(onwards, stream=True)

    async def body() -> AsyncIterator[bytes]:
        async for chunk in answer.aiter_raw():
            yield chunk
        await answer.aclose()

    headers = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
    return StreamingResponse(body(), answer.status_code, headers)


app.add_api_route(
    "/{path:path}",
    {"aiohttp": by_aiohttp, "httpx": by_httpx}[settings.CLIENT],
    methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
    response_model=None,
)

if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=settings.PORT,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        backlog=8192,
    )
