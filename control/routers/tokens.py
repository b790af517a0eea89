"""`/control/v1/tokens` and `/revocations`: let people in, and put them out."""

import math
from typing import Any

from fastapi import APIRouter, Depends, Request

from control.audit import Action
from control.deps import Deps, json_object
from control.errors import ApiCode, ApiError, invalid
from control.parse import Problem
from control.routers.described import body, fields
from control.store import StoreUnavailable
from control.tokens import (
    DEFAULT_TTL_S,
    MAX_TTL_S,
    TokenToRevoke,
    name,
    read_for_revocation,
    token_id,
)
from runtime.logs import get_logger

log = get_logger(__name__)

_KINDS = ("token", "jti", "user")
_NAME = {"type": "string", "minLength": 1, "maxLength": 256}
_TOKEN = fields(
    *("user", "role"),
    user=_NAME,
    role=_NAME,
    ttl_s={
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_TTL_S,
        "default": DEFAULT_TTL_S,
    },
)
_TEXT = {"type": "string", "minLength": 1}
_REVOCATION = fields(token=_TEXT, jti=_TEXT, user=_NAME) | {
    "minProperties": 1,
    "maxProperties": 1,
}


def router(deps: Deps) -> APIRouter:
    """Every path asks for the admin token."""
    api = APIRouter(prefix="/control/v1", dependencies=[Depends(deps.require_admin)])

    @api.post(
        "/tokens",
        status_code=201,
        openapi_extra=body(_TOKEN, {"user": "ada", "role": "user", "ttl_s": 3600}),
    )
    async def issue(request: Request) -> dict[str, Any]:
        """Sign a token for a user."""
        if deps.issuer is None:
            raise ApiError(
                409,
                ApiCode.NOT_ENABLED,
                "This control signs no tokens; set HUBGATE_TOKEN_SIGNING_KEY_FILE",
            )
        body = await json_object(request)
        _known(body, ("user", "role", "ttl_s"))
        # No longer than a revocation of its user would last.
        most = min(MAX_TTL_S, deps.longest_token_s)
        user, role = name(body.get("user"), "user"), name(body.get("role"), "role")
        ttl_s = _ttl(body.get("ttl_s", min(DEFAULT_TTL_S, most)), most)
        issued = deps.issuer.issue(user, role, deps.clock.now(), ttl_s)
        told = {"jti": issued.jti, "expiresAt": issued.expires_at}
        await deps.note(
            request,
            await deps.admin(request),
            Action.ISSUED,
            subject=user,
            details={"role": role, **told},
        )
        return {"token": issued.token, **told}

    @api.post("/revocations", openapi_extra=body(_REVOCATION, {"user": "ada"}))
    async def revoke(request: Request) -> dict[str, Any]:
        """Make a token, or all tokens that a user has now, invalid at once."""
        body = await json_object(request)
        _known(body, _KINDS)
        if len(body) != 1:
            raise invalid(Problem("document", "give one of token, jti and user"))
        if "user" in body:
            user, now = name(body["user"], "user"), deps.clock.now()
            lasts_s = _longest_s(deps)
            await deps.revocations.revoke_user(user, now, lasts_s)
            told: dict[str, Any] = {"issuedBefore": now, "expiresIn": lasts_s}
            await _note_revocation(deps, request, user, told)
            return {"user": user, **told}
        found = _token(body, deps)
        await deps.revocations.revoke_token(found.jti, found.ttl_s)
        told = {"jti": found.jti, "expiresIn": found.ttl_s}
        await _note_revocation(deps, request, None, told)
        return told

    return api


async def _note_revocation(
    deps: Deps, request: Request, user: str | None, told: dict[str, Any]
) -> None:
    """It is in force: that nobody could write it down is counted, and no error."""
    caller = await deps.admin(request)
    try:
        await deps.note(request, caller, Action.REVOKED, subject=user, details=told)
    except StoreUnavailable:
        deps.metrics.inc("hubgate_revocations_unnoted_total")
        log.error("a revocation is not in the audit log", user=user, **told)  # noqa: TRY400 - expected, no traceback


def _longest_s(deps: Deps) -> int:
    """For so long any token that there is now may be of use."""
    return deps.longest_token_s + math.ceil(deps.access.usable_after_exp_s)


def _token(body: dict[str, Any], deps: Deps) -> TokenToRevoke:
    if "jti" in body:
        return TokenToRevoke(token_id(body["jti"]), _longest_s(deps))
    return read_for_revocation(
        str(body["token"]),
        deps.access.usable_after_exp_s,
        deps.clock.now(),
        _longest_s(deps),
    )


def _known(body: dict[str, Any], names: tuple[str, ...]) -> None:
    unknown = [Problem(one, "no such field") for one in body if one not in names]
    if unknown:
        raise invalid(*unknown)


def _ttl(value: object, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise invalid(Problem("ttl_s", f"give whole seconds from 1 to {most}"))
    return value
