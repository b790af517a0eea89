"""A node that died and never returns is closed by an operator, who answers for it.

Until then the ledger's `completeThrough` waits for it. Closing claims nothing about
its requests: its own watermark stays where it was, and what ended later may be without
a row. A node that is heard again is open again by itself (`usage_sink/evidence.py`).
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Protocol

from pydantic import AfterValidator, StringConstraints

from control import completeness
from control.audit import AuditLog, Entry
from control.completeness import Watermark, claim, seconds_since, through
from control.parameters import shown
from control.store import MemoryUsageQueries
from control.values import Part
from runtime.clock import Clock
from runtime.contracts import NODE_SILENT_S

_MAX_TEXT: Final = 256


def _check_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("give printable characters")
    return text


_Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=_MAX_TEXT),
    AfterValidator(_check_printable),
]


class Closing(Part):
    """Who answers for it, and why; kept in the audit log."""

    author: _Text
    reason: _Text


class NodeAlive(Exception):
    """It was heard lately: closed, it would be open again within a second."""

    def __init__(self, mark: Watermark) -> None:
        self.mark = mark
        super().__init__(mark.node)


class Nodes(Protocol):
    """Closes nodes; raises StoreUnavailable."""

    async def close(self, node: str, entry: Entry) -> Watermark | None:
        """Its claim, closed, with `entry` in the audit log, or neither of both.

        One that was closed before stays as it was. None: nobody knows it, and nothing
        is written.

        Raises:
            NodeAlive: nothing is written.
        """


def noted(entry: Entry, mark: Watermark) -> Entry:
    """With what the node had claimed: later requests may be without a row."""
    return replace(entry, details={**entry.details, **claim(mark)})


def heard(alive: NodeAlive, now: float) -> str:
    """Why it is not closed, and what to do instead."""
    ago = seconds_since(alive.mark.updated_at, now)
    return _refusal(alive.mark.node, f"it was heard {ago} s ago")


def connected(node: str) -> str:
    """The same of one that may serve requests, whatever became of its usage_sink."""
    return _refusal(node, "its Envoy is connected to this control")


def _refusal(node: str, why: str) -> str:
    return (
        f"{node} is alive: {why}. Start or mend its usage_sink, and it completes"
        " itself; or stop its Envoy and then its usage_sink, and it closes itself. By"
        " hand it can be closed when its Envoy is gone and nothing was heard of it for"
        f" {NODE_SILENT_S} s"
    )


def answer(mark: Watermark, marks: Sequence[Watermark], now: float) -> dict[str, Any]:
    """As the API shows a node that is closed, among all."""
    instant = through(marks)
    return {
        "node": completeness.node(mark, now),
        "completeThrough": None if instant is None else shown(instant),
        "meaning": _meaning(mark),
    }


def _meaning(mark: Watermark) -> str:
    if mark.closed_by_hand_at is None:
        return (
            f"{mark.node} had closed itself when it was stopped: nothing of it is"
            " missing, and completeThrough does not wait for it."
        )
    return (
        f"completeThrough waits for {mark.node} no more. Its requests that ended after"
        f" {shown(mark.complete_through)} may have no row ({mark.pending} were known to"
        " lack theirs when it was last heard); nothing but its own disk can bring them."
        " If it comes back it is open again by itself, and completeThrough waits until"
        " they are there."
    )


class MemoryNodes:
    """For tests and tools: those of a MemoryUsageQueries."""

    def __init__(
        self, usage: MemoryUsageQueries, audit: AuditLog, clock: Clock
    ) -> None:
        self._usage = usage
        self._audit = audit
        self._clock = clock

    async def close(self, node: str, entry: Entry) -> Watermark | None:
        known = {mark.node: mark for mark in await self._usage.watermarks()}
        mark = known.get(node)
        if mark is None:
            return None
        if not mark.is_closed:
            now = self._clock.now()
            if now - mark.updated_at.timestamp() <= NODE_SILENT_S:
                raise NodeAlive(mark)
            at = datetime.fromtimestamp(now, UTC)
            mark = replace(mark, is_closed=True, closed_by_hand_at=at)
        await self._audit.add(noted(entry, mark))
        self._usage.marks = list({**known, node: mark}.values())
        return mark
