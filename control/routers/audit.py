"""`/control/v1/audit`: who read whose usage; and the end of a user's pseudonym."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request

from control import audit
from control.audit import Action
from control.deps import Deps, once
from control.parameters import Reader
from control.routers.described import Shown, example, parameter, parameters

_EXAMPLE = {
    "id": 17,
    "at": "2026-01-31T08:00:00Z",
    "actor": "m-1",
    "role": "manager",
    "action": "usage.logs",
    "subject": "u-1",
    "details": {"userId": "u-1", "limit": "50"},
    "requestId": "0b0f6f1e-5d0c-4a55-9d3c-2f0b6a6f7c11",
}
_PARAMETERS = parameters(
    parameter("actor", "Who did it: a user's id.", "m-1"),
    parameter("subject", "Whose usage it was.", "u-1"),
    parameter(
        "action", "What was done.", "usage.logs", enum=[one.value for one in Action]
    ),
    parameter("startDate", "A day or an instant, included.", "2026-01-01"),
    parameter("endDate", "A day (included) or an instant (not).", "2026-01-31"),
    parameter(
        *("limit", "Entries of a page.", 50),
        type="integer",
        minimum=1,
        maximum=audit.MAX_LIMIT,
        default=audit.DEFAULT_LIMIT,
    ),
    parameter("cursor", "`nextCursor` of the page before.", "17"),
)


class AuditEntry(Shown):
    """`actor` is null for who had the admin token, `subject` for several users."""

    id: int
    at: datetime
    actor: str | None
    role: str
    action: str
    subject: str | None
    details: dict[str, Any]
    request_id: str | None


class AuditPage(Shown):
    """Newest first."""

    items: list[AuditEntry]
    next_cursor: str | None


class Erasure(Shown):
    """`destroyed_at` is when it was destroyed first."""

    user_id: str
    destroyed_at: datetime


def router(deps: Deps) -> APIRouter:
    """For admins, by the admin token or their own."""
    api = APIRouter(prefix="/control/v1", tags=["audit and privacy"])

    @api.get(
        "/audit",
        openapi_extra=_PARAMETERS,
        response_model=AuditPage,
        responses=example(
            "Entries, newest first.", {"items": [_EXAMPLE], "nextCursor": "17"}
        ),
    )
    async def entries(request: Request) -> dict[str, Any]:
        """Who read usage that is not their own, and who exported what."""
        caller = await deps.admin(request)
        query = audit.parse_query(once(request))
        await deps.note(request, caller, Action.AUDIT, subject=query.subject)
        return audit.page(query, await deps.audit.find(query))

    @api.delete(
        "/users/{user_id:path}/pseudonym",
        response_model=Erasure,
        responses=example(
            "The key is destroyed.",
            {"userId": "u-1", "destroyedAt": "2026-01-31T08:00:00Z"},
        ),
    )
    async def destroy(user_id: str, request: Request) -> dict[str, Any]:
        """Destroy the key of a user's pseudonym, for ever; again changes nothing.

        The ledger's rows stay as they are.
        """
        caller = await deps.admin(request)
        reader = Reader({"id": user_id}, ("id",))
        user = reader.text("id") or ""
        reader.done()
        await deps.note(request, caller, Action.PSEUDONYM_DESTROYED, subject=user)
        at = await deps.pseudonyms.destroy(user)
        return {"userId": user, "destroyedAt": at}

    return api
