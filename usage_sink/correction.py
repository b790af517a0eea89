"""One row is corrected by hand: a refund, a count that was wrong.

The row stays as it is; the correction is a row of its own, signed and sealed. `reprice`
leaves it as it is: what somebody decided is no matter of prices.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from runtime.contracts import TABLE_USAGE_ADJUSTMENTS, TABLE_USAGE_LOGS
from usage_sink.adjustments import BY_HAND, Adjustment
from usage_sink.errors import BadCorrection
from usage_sink.reprice import Adjusting, Signature, alone

_ROW: Final = f"""
SELECT l.created_at, l.tokens + coalesce(a.tokens, 0) AS tokens,
    l.credits + coalesce(a.credits, 0) AS credits
FROM {TABLE_USAGE_LOGS} l LEFT JOIN LATERAL (
    SELECT sum(tokens) AS tokens, sum(credits) AS credits
    FROM {TABLE_USAGE_ADJUSTMENTS}
    WHERE usage_id = l.id AND usage_created_at = l.created_at
) a ON true
WHERE l.id = $1 LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """Tokens and credits of a row with all its corrections, or what is added."""

    tokens: int
    credits: int


async def correct(
    connection: asyncpg.Connection,
    usage_id: UUID,
    delta: Figures,
    signature: Signature,
    store: Adjusting,
) -> Figures:
    """Add to a row's figures; what they are then.

    Raises:
        BadCorrection: no such row, less than nothing would be left, or the row was
            corrected for this very reason before.
        RepriceBusy: another run is under way.
        LedgerUnavailable: not written, or not known to be; run it again.
    """
    async with alone(connection):
        row = await connection.fetchrow(_ROW, usage_id)
        if row is None:
            raise BadCorrection(f"no row {usage_id}; days in archives: restore first")
        left = Figures(row["tokens"] + delta.tokens, row["credits"] + delta.credits)
        if min(left.tokens, left.credits) < 0:
            said = f"{row['tokens']} tokens and {row['credits']} credits"
            raise BadCorrection(f"it has {said}: no more can be taken back")
        adjustment = Adjustment(
            usage_id=usage_id,
            usage_created_at=row["created_at"],
            tokens=delta.tokens,
            credits=delta.credits,
            price_version="",
            reason=signature.reason,
            author=signature.author,
            metadata={BY_HAND: True},
        )
        if not await store.adjust([adjustment]):
            raise BadCorrection("it was corrected for this very reason before")
    return left
