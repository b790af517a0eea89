"""auth-service: signs callers in, renews their tokens, signs them out."""

from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from local.demo import tokens
from local.demo.accounts import ACCOUNTS, Account, sign_in
from local.demo.answers import Refusal, add_health, answer_in_json
from local.demo.revocations import Revocations
from runtime.clock import Clock
from runtime.contracts import ErrorCode
from runtime.contracts.redis_keys import REVOCATION_MARGIN_S
from runtime.redis import RedisUnavailable

#: RFC 6749 §5.1: an answer with tokens in it is not for caches.
_NO_STORE: Final = {"cache-control": "no-store"}
_CHALLENGE: Final = {"www-authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class AuthDeps:
    """What auth-service stands on."""

    signer: tokens.Signer
    revocations: Revocations
    clock: Clock


class Login(BaseModel):
    """Body of POST /api/auth/login."""

    username: str = Field(min_length=1, max_length=128)
    password: str = Field(min_length=1, max_length=256)


class Refresh(BaseModel):
    """Body of POST /api/auth/refresh."""

    refreshToken: str = Field(min_length=1, max_length=4096)  # noqa: N815 - wire name


def create_app(deps: AuthDeps) -> FastAPI:
    """The three calls and /health."""
    app = FastAPI(title="auth-service", openapi_url=None)
    answer_in_json(app)
    add_health(app, "auth-service")

    @app.exception_handler(RedisUnavailable)
    async def _store_down(_: Request, __: Exception) -> JSONResponse:
        body = {"code": ErrorCode.AUTH_UNAVAILABLE, "message": "Try again later"}
        return JSONResponse(body, 503)

    @app.post("/api/auth/login")
    async def login(body: Login) -> JSONResponse:
        account = sign_in(body.username, body.password)
        if account is None:
            raise Refusal(401, "INVALID_CREDENTIALS", "Wrong username or password")
        return _pair(deps, account)

    @app.post("/api/auth/refresh")
    async def refresh(body: Refresh) -> JSONResponse:
        return _pair(deps, await _redeem(deps, body.refreshToken))

    @app.post("/api/auth/logout", status_code=204)
    async def logout(authorization: Annotated[str | None, Header()] = None) -> Response:
        ticket = _bearer(deps, authorization)
        await _revoke(deps, ticket)
        return Response(status_code=204)

    return app


def _pair(deps: AuthDeps, account: Account) -> JSONResponse:
    pair = tokens.issue(deps.signer, account, deps.clock.now())
    body: dict[str, Any] = {
        "accessToken": pair.access,
        "refreshToken": pair.refresh,
        "expiresIn": tokens.ACCESS_TTL_S,
        "tokenType": "Bearer",
        "user": {"id": account.id, "role": account.role},
    }
    return JSONResponse(body, headers=_NO_STORE)


async def _redeem(deps: AuthDeps, token: str) -> Account:
    """The account of a refresh token, which is used up by asking."""
    ticket = tokens.read_refresh(deps.signer, token, deps.clock.now())
    account = None if ticket is None else ACCOUNTS.get(ticket.sub)
    if ticket is None or account is None:
        raise Refusal(401, ErrorCode.TOKEN_INVALID, "The refresh token is not valid")
    if not await _revoke(deps, ticket):
        message = "The refresh token has been used or revoked"
        raise Refusal(401, ErrorCode.TOKEN_REVOKED, message)
    return account


def _bearer(deps: AuthDeps, authorization: str | None) -> tokens.Ticket:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        message = "Send Authorization: Bearer <access token>"
        raise Refusal(401, ErrorCode.TOKEN_MISSING, message, _CHALLENGE)
    ticket = tokens.read_access(deps.signer, token.strip(), deps.clock.now())
    if ticket is None:
        message = "The access token is not valid"
        raise Refusal(401, ErrorCode.TOKEN_INVALID, message, _CHALLENGE)
    return ticket


async def _revoke(deps: AuthDeps, ticket: tokens.Ticket) -> bool:
    # Rounded up: the key must outlive the token, never the reverse.
    ttl_s = ticket.exp + REVOCATION_MARGIN_S - int(deps.clock.now())
    return await deps.revocations.revoke(ticket.jti, ttl_s)
