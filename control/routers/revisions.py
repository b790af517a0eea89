"""`/control/v1/revisions` and `/rollback`: what the document was, and back to that."""

from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from control import edits
from control.changes import Changes
from control.deps import Deps, json_object, once
from control.errors import ApiCode, ApiError, invalid
from control.parameters import Reader
from control.parse import Problem
from control.routers.config import AUTHOR, answer, told
from control.routers.described import body, fields, parameter, parameters
from control.store import Revision, Status

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 200
#: No revision has a number like that.
MAX_REV: Final = 10**15
NUMBER: Final = {"type": "integer", "minimum": 1, "maximum": MAX_REV}
_PAGE = parameters(
    parameter(
        *("limit", "Revisions of a page.", 20),
        type="integer",
        minimum=1,
        maximum=MAX_LIMIT,
        default=DEFAULT_LIMIT,
    ),
    parameter("before", "`nextBefore` of the page before.", 17, **NUMBER),
)
_BODY = body(fields("revision", revision=NUMBER), {"revision": 16})


def router(deps: Deps) -> APIRouter:
    """Every path asks for the admin token."""
    api = APIRouter(prefix="/control/v1", dependencies=[Depends(deps.require_admin)])
    changes = deps.changes

    @api.get("/revisions", openapi_extra=_PAGE)
    async def history(request: Request) -> dict[str, Any]:
        """Newest first."""
        reader = Reader(once(request), ("limit", "before"))
        limit = reader.number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        before = reader.number("before", MAX_REV, 1, MAX_REV)
        reader.done()
        found = await changes.history(before, limit)
        is_full = len(found) == limit
        return {
            "items": [_told(one) for one in found],
            "nextBefore": found[-1].rev if is_full else None,
        }

    @api.get("/revisions/{revision}")
    async def one(revision: str) -> dict[str, Any]:
        """One revision with its document."""
        reader = Reader({"revision": revision}, ("revision",))
        number = reader.number("revision", 0, 1, MAX_REV)
        reader.done()
        found = await _kept(changes, number)
        return {**_told(found), "config": found.document}

    @api.post("/rollback", openapi_extra=_BODY)
    async def roll_back(request: Request) -> JSONResponse:
        """Put a revision in force again, as a new one that is checked like any."""
        number = _number(await json_object(request))
        kept = await _kept(changes, number)
        if kept.status is not Status.ACTIVE:
            raise ApiError(
                409, ApiCode.CONFLICT, f"revision {number} was never in force"
            )
        outcome = await changes.apply(
            lambda _: kept.document, AUTHOR, f"back to revision {number}"
        )
        return answer(outcome, {"rolledBackTo": number})

    return api


def _told(revision: Revision) -> dict[str, Any]:
    return {**told(revision), "reason": revision.reason}


def _number(given: dict[str, Any]) -> int:
    match given:
        case {"revision": int(number), **others} if not others:
            if not isinstance(number, bool) and 1 <= number <= MAX_REV:
                return number
    raise invalid(Problem("revision", "give a revision's number, and no more"))


async def _kept(changes: Changes, number: int) -> Revision:
    found = await changes.kept(number)
    if found is None:
        raise edits.missing("revision", str(number))
    return found
