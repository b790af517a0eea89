"""Who read whose usage, and who exported it: entries, and how they are asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Protocol
from uuid import UUID

from control.parameters import Reader, end_of, instant_of, shown
from control.store import StoreUnavailable
from runtime.clock import Clock

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 500
_PARAMETERS: Final = (
    *("actor", "subject", "action", "startDate", "endDate", "limit", "cursor"),
)


class Action(StrEnum):
    """What was done."""

    LOGS = "usage.logs"
    SUMMARY = "usage.summary"
    ANALYTICS = "usage.analytics"
    EXPORT = "usage.export"
    #: The same export, when its last byte was sent, with what it added up to.
    EXPORT_ENDED = "usage.export.ended"
    EXPLAIN = "usage.explain"
    COMPLETENESS = "usage.completeness"
    AUDIT = "audit.read"
    #: Entries that were older than they are kept (`control/prune.py`).
    PRUNED = "audit.pruned"
    NODE_CLOSED = "usage.node.closed"
    PSEUDONYM_DESTROYED = "pseudonym.destroyed"
    ISSUED = "token.issued"
    REVOKED = "token.revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`actor` None: who has the admin token; `subject` None: nobody in particular.

    `action` is an Action, or what a newer control calls one.
    """

    actor: str | None
    role: str
    action: str
    subject: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry as it was kept; `id` grows."""

    id: int
    at: datetime
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which entries; None means any. `before` is the id of the last one seen."""

    actor: str | None = None
    subject: str | None = None
    action: Action | None = None
    start: datetime | None = None
    end: datetime | None = None
    limit: int = DEFAULT_LIMIT
    before: int | None = None

    def matches(self, kept: Kept) -> bool:
        """The rule that the SQL of the store says in its way."""
        entry = kept.entry
        return (
            (self.actor is None or entry.actor == self.actor)
            and (self.subject is None or entry.subject == self.subject)
            and (self.action is None or entry.action == self.action)
            and (self.start is None or kept.at >= self.start)
            and (self.end is None or kept.at < self.end)
            and (self.before is None or kept.id < self.before)
        )


class AuditLog(Protocol):
    """Entries are added and never changed; raises StoreUnavailable."""

    async def add(self, entry: Entry) -> None:
        """It is kept when this returns."""

    async def find(self, query: AuditQuery) -> Sequence[Kept]:
        """Newest first; one more than `query.limit` when there are more."""


class MemoryAuditLog:
    """For tests and tools."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.kept: list[Kept] = []
        self.is_available = True

    async def add(self, entry: Entry) -> None:
        if not self.is_available:
            raise StoreUnavailable
        at = datetime.fromtimestamp(self._clock.now(), UTC)
        self.kept.append(Kept(len(self.kept) + 1, at, entry))

    async def find(self, query: AuditQuery) -> Sequence[Kept]:
        if not self.is_available:
            raise StoreUnavailable
        found = [one for one in reversed(self.kept) if query.matches(one)]
        return found[: query.limit + 1]


def parse_query(parameters: Mapping[str, str]) -> AuditQuery:
    """Raises BadParameters, naming every bad one."""
    reader = Reader(parameters, _PARAMETERS)
    action = reader.choice("action", tuple(Action))
    query = AuditQuery(
        actor=reader.text("actor"),
        subject=reader.text("subject"),
        action=None if action is None else Action(action),
        start=reader.read("startDate", instant_of),
        end=reader.read("endDate", end_of),
        limit=reader.number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT),
        before=reader.read("cursor", _cursor),
    )
    reader.done()
    return query


def page(query: AuditQuery, found: Sequence[Kept]) -> dict[str, Any]:
    """As the API shows it."""
    shown_ = found[: query.limit]
    has_more = len(found) > query.limit
    return {
        "items": [_item(one) for one in shown_],
        "nextCursor": str(shown_[-1].id) if has_more else None,
    }


def _item(kept: Kept) -> dict[str, Any]:
    entry = kept.entry
    return {
        "id": kept.id,
        "at": shown(kept.at),
        "actor": entry.actor,
        "role": entry.role,
        "action": str(entry.action),
        "subject": entry.subject,
        "details": dict(entry.details),
        "requestId": None if entry.request_id is None else str(entry.request_id),
    }


def _cursor(text: str) -> int:
    # The length first: Python refuses to read a number of many digits.
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(2**63))
    if not (is_number and int(text) < 2**63):
        raise ValueError("give the nextCursor of an earlier answer, unchanged")
    return int(text)
