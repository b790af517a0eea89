"""Rows are rated anew by a price book; the differences become adjustments.

Rule: an adjustment makes row and adjustments together what the book says. So it is
relative to all that was adjusted before, and a row that has been rated by the same
version, with nothing left to change, is left alone: repeating a run adds nothing.
What was corrected by hand (`correction`) is no matter of prices and stays beside that.

Only billable rows are rated (`usage_logs.billable`), and only those in the ledger:
an archived day is restored first.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

import asyncpg

from runtime.contracts import (
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_LOGS,
    Pricing,
    UsageSource,
)
from usage_sink.adjustments import BY_HAND, Adjustment
from usage_sink.errors import UsageSinkError
from usage_sink.events import Usage
from usage_sink.prices import CURRENCY, Charge, PriceBook

#: One run at a time ("hubr" in ASCII): two would both add the same difference.
LOCK: Final = 0x68756273
_CHUNK: Final = 2_000

_ROWS: Final = f"""
SELECT l.id, l.created_at, l.service, l.model, l.tokens, l.credits, l.input_tokens,
    l.output_tokens, l.cached_tokens, l.reasoning_tokens, l.usage_source,
    coalesce(a.credits, 0) AS adjusted,
    coalesce($6 = ANY (a.versions), false) AS is_rated
FROM {TABLE_USAGE_LOGS} l LEFT JOIN LATERAL (
    SELECT sum(credits) FILTER (WHERE NOT metadata ? '{BY_HAND}') AS credits,
        array_agg(price_version) AS versions
    FROM {TABLE_USAGE_ADJUSTMENTS}
    WHERE usage_id = l.id AND usage_created_at = l.created_at
) a ON true
WHERE l.created_at >= $1 AND l.created_at < $2 AND l.billable
    AND ($3::text IS NULL OR l.service = $3) AND ($4::text IS NULL OR l.model = $4)
    AND CASE WHEN $5::text IS NULL THEN l.pricing = '{Pricing.UNPRICED}'
        ELSE l.pricing = '{Pricing.PRICED}' AND l.price_version = $5 END
ORDER BY l.created_at, l.id
"""


class RepriceBusy(UsageSinkError):
    """Rows are being corrected by another process; try again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rows: unpriced ones, or with `price_version` those that it priced."""

    start: datetime
    end: datetime
    service: str | None = None
    model: str | None = None
    price_version: str | None = None


@dataclass(slots=True)
class Group:
    """What comes of the rows of one service and model."""

    rows: int = 0
    adjusted: int = 0
    credits: int = 0
    without_price: int = 0
    kept: int = 0


@dataclass(slots=True)
class Repriced:
    """By (service, model); `written` of the adjustments are new in the ledger."""

    groups: dict[tuple[str, str], Group] = field(
        default_factory=lambda: defaultdict(Group)
    )
    written: int = 0

    @property
    def adjusted(self) -> int:
        return sum(group.adjusted for group in self.groups.values())

    @property
    def credits(self) -> int:
        return sum(group.credits for group in self.groups.values())


class Adjusting(Protocol):
    """What keeps corrections: `PostgresUsageStore`."""

    async def adjust(self, adjustments: Sequence[Adjustment]) -> int: ...


@dataclass(frozen=True, slots=True)
class Signature:
    """Who says so, and why; both are kept with every adjustment."""

    author: str
    reason: str


async def reprice(
    connection: asyncpg.Connection,
    selection: Selection,
    book: PriceBook,
    signature: Signature,
    store: Adjusting | None,
) -> Repriced:
    """Rate the selected rows; without a `store` nothing is written (a dry run).

    Raises:
        RepriceBusy: another run is under way.
        LedgerUnavailable: what was written before stays; run it again.
    """
    done = Repriced()
    async with alone(connection):
        async for rows in _chunks(connection, selection, book.version):
            adjustments = [
                one
                for row in rows
                if (one := _adjustment(row, book, signature, done)) is not None
            ]
            if store is not None:
                done.written += await store.adjust(adjustments)
    return done


@asynccontextmanager
async def alone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Inside, nobody else corrects rows.

    Raises:
        RepriceBusy: somebody does.
    """
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
        raise RepriceBusy
    try:
        yield
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def _chunks(
    connection: asyncpg.Connection, selection: Selection, version: str
) -> AsyncIterator[list[asyncpg.Record]]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        cursor = await connection.cursor(
            _ROWS,
            *(selection.start, selection.end, selection.service, selection.model),
            *(selection.price_version, version),
        )
        while rows := await cursor.fetch(_CHUNK):
            yield rows


def _adjustment(
    row: asyncpg.Record, book: PriceBook, signature: Signature, done: Repriced
) -> Adjustment | None:
    group = done.groups[(row["service"], row["model"] or "")]
    group.rows += 1
    charge = rated(row, book)
    if charge.pricing is not Pricing.PRICED:
        group.without_price += 1
        return None
    difference = charge.credits - row["credits"] - row["adjusted"]
    if row["is_rated"] and difference == 0:
        group.kept += 1
        return None
    group.adjusted += 1
    group.credits += difference
    return Adjustment(
        usage_id=row["id"],
        usage_created_at=row["created_at"],
        credits=difference,
        price_version=book.version,
        reason=signature.reason,
        author=signature.author,
        metadata={
            "billing": {
                "totalCost": f"{charge.cost.normalize():f}",
                "currency": CURRENCY,
            }
        },
    )


def rated(row: Any, book: PriceBook) -> Charge:
    """What `book` charges for a row of the ledger."""
    usage = Usage(
        UsageSource(row["usage_source"]),
        total=row["tokens"],
        input=row["input_tokens"],
        output=row["output_tokens"],
        cached=row["cached_tokens"],
        reasoning=row["reasoning_tokens"],
    )
    return book.rate(row["service"], row["model"], row["created_at"], usage)
