"""Where the ledger is kept, in the domain's words, and the in-memory twin."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from usage_sink.plain import Record
from usage_sink.records import Misfit, UsageRecord


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the records of one write; together they are all of them."""

    new: int = 0
    known: int = 0
    quarantined: int = 0

    def __add__(self, other: "Written") -> "Written":
        return Written(
            self.new + other.new,
            self.known + other.known,
            self.quarantined + other.quarantined,
        )


class UsageStore(Protocol):
    """Keeps each record once; both methods are durable when they return.

    Both raise LedgerUnavailable when nothing could be decided; then some records may
    be written and some not, and the same call is made again.
    """

    async def write(self, records: Sequence[Record]) -> Written:
        """Write what is new; a record that is refused alone goes to quarantine."""

    async def quarantine(self, misfits: Sequence[Misfit]) -> None:
        """Keep entries that can't be rows; the same one again adds nothing."""


class MemoryUsageStore:
    """The twin for tests. `refused` are ids that it treats as poison."""

    def __init__(self, refused: frozenset[UUID] = frozenset()) -> None:
        self.rows: dict[tuple[UUID, datetime], UsageRecord] = {}
        self.misfits: list[Misfit] = []
        self._refused = refused

    async def write(self, records: Sequence[Record]) -> Written:
        new = quarantined = 0
        for record in [one.whole() for one in records]:
            key = (record.event.id, record.event.created_at)
            if record.event.id in self._refused:
                await self.quarantine([misfit_of(record, "refused")])
                quarantined += 1
            elif key not in self.rows:
                self.rows[key] = record
                new += 1
        return Written(new, len(records) - new - quarantined, quarantined)

    async def quarantine(self, misfits: Sequence[Misfit]) -> None:
        self.misfits += [misfit for misfit in misfits if misfit not in self.misfits]


def misfit_of(refused: Record, reason: str) -> Misfit:
    """A record that the database refused, as text."""
    record = refused.whole()
    event = record.event
    values = {
        "id": event.id,
        "created_at": event.created_at.isoformat(),
        "service": event.service,
        "model": event.model,
        "user_id": event.user_id,
        "tokens": event.usage.total,
        "credits": record.charge.credits,
        "node": record.origin.node,
    }
    return Misfit(reason, {name: str(value) for name, value in values.items()})
