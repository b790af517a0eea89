"""`/control/v1/explain/{request_id}`: what happened to one request, and why."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from control.access import Caller
from control.audit import Action
from control.completeness import through
from control.deps import Deps, once
from control.errors import ApiCode, ApiError, invalid
from control.explain import explain
from control.parameters import Reader, shown
from control.parse import Problem
from control.routers.described import Shown, example
from runtime.contracts import ROLE_ADMIN

_ID = "0b0f6f1e-5d0c-4a55-9d3c-2f0b6a6f7c11"
EXAMPLE = {
    "requestId": _ID,
    "route": {
        "id": "openai",
        "policy": {"id": "openai", "prefix": "/api/mcp/openai", "auth": "required"},
        "revision": 3,
        "revisionSince": "2026-01-30T07:00:00Z",
    },
    "identity": {"userId": "alice", "role": "user"},
    "verdict": {
        "outcome": "ok",
        "status": 200,
        "isAdmitted": True,
        "reason": None,
        "decidedBy": None,
    },
    "limits": [
        {
            "rule": "role user: 60 requests per 60 s",
            "limit": 60,
            "remaining": 47,
            "reset": 31,
        }
    ],
    "upstream": {
        "service": "openai",
        "address": "10.0.0.7:3003",
        "flags": None,
        "details": None,
    },
    "timings": {
        "startedAt": "2026-01-31T08:00:00Z",
        "firstByteMs": 310,
        "totalMs": 842,
        "endedAt": "2026-01-31T08:00:00.842000Z",
        "recordedAt": "2026-01-31T08:00:01.310000Z",
    },
    "tokens": {
        "source": "provider",
        "total": 124,
        "input": 101,
        "output": 23,
        "cached": 64,
        "reasoning": 0,
    },
    "price": {
        "pricing": "priced",
        "version": "2026-01",
        "credits": 1,
        "billing": {"ratePerToken": 0.0032, "totalCost": 0.4025, "currency": "credits"},
        "arithmetic": {
            "price": {"service": "openai", "model": "gpt-4o*", "from": "2026-01-01"},
            "terms": [
                {
                    "what": "input",
                    "tokens": 37,
                    "creditsPer1000": "2.5",
                    "credits": "0.0925",
                },
                {
                    "what": "cached",
                    "tokens": 64,
                    "creditsPer1000": "1.25",
                    "credits": "0.08",
                },
                {
                    "what": "output",
                    "tokens": 23,
                    "creditsPer1000": "10",
                    "credits": "0.23",
                },
            ],
            "perCall": "0",
            "exact": "0.4025",
            "rounding": "up to a whole credit",
            "credits": 1,
            "agrees": True,
        },
        "arithmeticReason": None,
    },
    "row": {"id": _ID, "userId": "alice", "service": "openai", "model": "gpt-4o"},
    "seal": {
        "chain": "5b8f2c0e-3e1a-4a49-8a43-0a8f7f3f9b11",
        "node": "gateway-1",
        "seal": 4711,
        "day": "2026-01-31",
        "rows": 38,
        "digest": "9f…",
        "previous": "27…",
        "head": "c4…",
        "sealedAt": "2026-01-31T08:00:01.310000Z",
        "isLinked": True,
    },
    "adjustments": [],
    "totals": {
        "tokens": 124,
        "inputTokens": 101,
        "outputTokens": 23,
        "cachedTokens": 64,
        "reasoningTokens": 0,
        "credits": 1,
    },
    "completeThrough": "2026-01-31T08:00:04Z",
}

Fields = dict[str, Any]


class Explanation(Shown):
    """A request's story; what nobody knows is null."""

    request_id: str
    route: Fields
    identity: Fields
    verdict: Fields
    limits: list[Fields]
    upstream: Fields
    timings: Fields
    tokens: Fields
    price: Fields
    row: Fields
    seal: Fields | None
    adjustments: list[Fields]
    totals: dict[str, int]
    complete_through: str | None


def router(deps: Deps) -> APIRouter:
    """Asks for the admin token; each answer is written to the audit log first."""
    api = APIRouter(
        prefix="/control/v1/explain",
        dependencies=[Depends(deps.require_admin)],
        tags=["explain"],
    )

    @api.get(
        "/{request_id}",
        response_model=Explanation,
        responses=example("The request's whole story", EXAMPLE),
    )
    async def one(request_id: str, request: Request) -> dict[str, Any]:
        """One request from its route to its seal."""
        Reader(once(request), ()).done()
        wanted = _id(request_id)
        instant = through(await deps.usage.watermarks())
        story = await deps.live.stories.of(wanted)
        await deps.note(
            request,
            Caller(None, ROLE_ADMIN),
            Action.EXPLAIN,
            subject=None if story is None else story.row["user_id"],
            details={"requestId": str(wanted)},
        )
        if story is None:
            so_far = "nothing yet" if instant is None else f"all up to {shown(instant)}"
            raise ApiError(
                404,
                ApiCode.NOT_FOUND,
                f"No request {wanted} is in the ledger, which has {so_far}; days that "
                "were archived are not looked at",
            )
        return explain(story, deps.changes.config, instant)

    return api


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise invalid(
            Problem("request_id", "give a request's id, a UUID", given=text[:64])
        ) from None
