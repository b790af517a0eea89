"""How complete is the ledger? What each node claims, and minute by minute. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from control.parameters import Reader, end_of, instant_of, shown

#: Of minutes that one answer lists.
_LONGEST: Final = timedelta(days=1)
_DEFAULT: Final = timedelta(hours=1)
_PARAMETERS: Final = ("startDate", "endDate")
_FIRST: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """A node's claim: every request that ended before `complete_through` has its row.

    A node that `is_closed` has stopped and has nothing on its way, as it said itself;
    or it died, and an operator closed it (`closed_by_hand_at`): then requests that
    ended later may be without a row.
    """

    node: str
    complete_through: datetime
    basis: str
    pending: int
    is_closed: bool
    #: The node was heard.
    updated_at: datetime
    closed_by_hand_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """What one node counted of the requests that began in a minute."""

    node: str
    minute: datetime
    admitted: int
    recorded: int
    unsettled: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class Range:
    """`end` is excluded."""

    start: datetime
    end: datetime


def through(marks: Sequence[Watermark]) -> datetime | None:
    """The instant for all nodes; None: no node has ever claimed anything."""
    running = [mark.complete_through for mark in marks if not mark.is_closed]
    if running:
        return min(running)
    return max((mark.complete_through for mark in marks), default=None)


def parse_range(parameters: Mapping[str, str], now: float) -> Range:
    """The minutes that the parameters ask for: the last hour unless they say else.

    Raises:
        BadParameters: naming every bad one.
    """
    reader = Reader(parameters, _PARAMETERS)
    start = reader.read("startDate", instant_of)
    end = reader.read("endDate", end_of)
    reader.done()
    end = end or datetime.fromtimestamp(now, UTC)
    start = start or end - min(_DEFAULT, end - _FIRST)
    if not timedelta() < end - start <= _LONGEST:
        name = "startDate" if "startDate" in parameters else "endDate"
        reader.problem(name, "give at most one day, start first")
    reader.done()
    return Range(start, end)


def claim(mark: Watermark) -> dict[str, Any]:
    """As the API and the audit log show it."""
    by_hand = mark.closed_by_hand_at
    return {
        "node": mark.node,
        "completeThrough": shown(mark.complete_through),
        "basis": mark.basis,
        "pending": mark.pending,
        "isClosed": mark.is_closed,
        "closedByHandAt": None if by_hand is None else shown(by_hand),
        "updatedAt": shown(mark.updated_at),
    }


def node(mark: Watermark, now: float) -> dict[str, Any]:
    """The claim, how old it is, and since when nothing was heard of the node."""
    return {
        **claim(mark),
        "ageSeconds": seconds_since(mark.complete_through, now),
        "silentSeconds": seconds_since(mark.updated_at, now),
    }


def seconds_since(at: datetime, now: float) -> int:
    """Whole ones; the database's clock and ours may differ a little."""
    return max(0, int(now - at.timestamp()))


def answer(
    marks: Sequence[Watermark], minutes: Sequence[Minute], now: float
) -> dict[str, Any]:
    """As the API shows it."""
    instant = through(marks)
    return {
        "completeThrough": None if instant is None else shown(instant),
        "nodes": [node(mark, now) for mark in marks],
        "minutes": [
            {
                "node": one.node,
                "minute": shown(one.minute),
                "admitted": one.admitted,
                "recorded": one.recorded,
                "unsettled": one.unsettled,
                "quarantined": one.quarantined,
            }
            for one in minutes
        ],
    }
