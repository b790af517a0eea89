"""What upstreams say they took (`x-usage-credits`) beside what the price book says.

The ledger charges what was reported; here a difference is found, not corrected.
"""

import heapq
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from runtime.contracts import TABLE_USAGE_LOGS, Pricing
from usage_sink.prices import PriceBook
from usage_sink.reprice import Selection, rated

_CHUNK: Final = 2_000
LARGEST: Final = 10

_ROWS: Final = f"""
SELECT id, created_at, service, model, tokens, credits, input_tokens, output_tokens,
    cached_tokens, reasoning_tokens, usage_source
FROM {TABLE_USAGE_LOGS}
WHERE created_at >= $1 AND created_at < $2 AND pricing = '{Pricing.REPORTED}'
    AND ($3::text IS NULL OR service = $3) AND ($4::text IS NULL OR model = $4)
"""


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One row, ordered by how far apart the two figures are."""

    size: int
    id: UUID
    created_at: datetime
    reported: int
    by_book: int


@dataclass(slots=True)
class Compared:
    """The rows of one service and model."""

    rows: int = 0
    differing: int = 0
    without_price: int = 0
    reported: int = 0
    by_book: int = 0


@dataclass(slots=True)
class Correlation:
    """Sums by (service, model) over rows that have both figures, and the worst rows."""

    groups: dict[tuple[str, str], Compared] = field(
        default_factory=lambda: defaultdict(Compared)
    )
    largest: list[Difference] = field(default_factory=list)

    @property
    def differing(self) -> int:
        return sum(group.differing for group in self.groups.values())


async def correlate(
    connection: asyncpg.Connection, selection: Selection, book: PriceBook
) -> Correlation:
    """Compare the selected rows that say what they cost; reads only."""
    found = Correlation()
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        cursor = await connection.cursor(
            _ROWS,
            *(selection.start, selection.end, selection.service, selection.model),
        )
        while rows := await cursor.fetch(_CHUNK):
            for row in rows:
                _compare(row, book, found)
            found.largest = heapq.nlargest(LARGEST, found.largest)
    return found


def _compare(row: asyncpg.Record, book: PriceBook, found: Correlation) -> None:
    group = found.groups[(row["service"], row["model"] or "")]
    group.rows += 1
    charge = rated(row, book)
    if charge.pricing is not Pricing.PRICED:
        group.without_price += 1
        return
    group.reported += row["credits"]
    group.by_book += charge.credits
    if charge.credits != row["credits"]:
        group.differing += 1
        found.largest.append(
            Difference(
                size=abs(charge.credits - row["credits"]),
                id=row["id"],
                created_at=row["created_at"],
                reported=row["credits"],
                by_book=charge.credits,
            )
        )
