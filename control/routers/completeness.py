"""`/api/usage/completeness`: how far the ledger is complete, by node and minute."""

from typing import Any, Literal

from fastapi import APIRouter, Request

from control.completeness import answer, parse_range
from control.deps import Deps, once
from control.routers.described import Shown, example, parameter, parameters

NODE: dict[str, Any] = {
    "node": "gateway-1",
    "completeThrough": "2026-01-31T08:00:04.120000Z",
    "basis": "file",
    "pending": 3,
    "isClosed": False,
    "closedByHandAt": None,
    "updatedAt": "2026-01-31T08:00:05Z",
    "ageSeconds": 2,
    "silentSeconds": 1,
}
_EXAMPLE = {
    "completeThrough": "2026-01-31T08:00:04.120000Z",
    "nodes": [NODE],
    "minutes": [
        {
            "node": "gateway-1",
            "minute": "2026-01-31T07:59:00Z",
            "admitted": 1200,
            "recorded": 1203,
            "unsettled": 0,
            "quarantined": 0,
        }
    ],
}


class Node(Shown):
    """A node's claim: every request that ended before that instant has its row.

    Of one with `closed_by_hand_at` requests that ended later may have none.
    `age_seconds` are of the claim; `silent_seconds`: so long it was not heard.
    """

    node: str
    complete_through: str
    basis: Literal["file", "stream"]
    pending: int
    is_closed: bool
    closed_by_hand_at: str | None
    updated_at: str
    age_seconds: int
    silent_seconds: int


class MinuteCounts(Shown):
    """Of the requests that began in that minute; refused ones are recorded, too."""

    node: str
    minute: str
    admitted: int
    recorded: int
    unsettled: int
    quarantined: int


class Completeness(Shown):
    """`complete_through` is that of the node that is furthest behind."""

    complete_through: str | None
    nodes: list[Node]
    minutes: list[MinuteCounts]


def router(deps: Deps) -> APIRouter:
    """For administrators: it tells of all nodes."""
    api = APIRouter(prefix="/api/usage", tags=["usage"])

    @api.get(
        "/completeness",
        response_model=Completeness,
        responses=example("Watermarks, and counts by minute", _EXAMPLE),
        openapi_extra=parameters(
            parameter(
                "startDate",
                "A day or an instant; an hour before endDate unless given",
                "2026-01-31T07:00:00Z",
            ),
            parameter(
                "endDate",
                "A day (included) or an instant (not); now unless given; at most a day "
                "after startDate",
                "2026-01-31T08:00:00Z",
            ),
        ),
    )
    async def completeness(request: Request) -> dict[str, Any]:
        """How far each node has brought all its rows, and by minute what it did."""
        await deps.admin(request)
        now = deps.clock.now()
        range_ = parse_range(once(request), now)
        marks = await deps.usage.watermarks()
        return answer(marks, await deps.usage.minutes(range_), now)

    return api
