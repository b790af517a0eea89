"""Through which instant is the ledger complete? Pure, and the tables that say so.

Complete through t: every request that ended before t has its row. A watermark is a
claim, so each fact that could contradict it holds it back:
- the file log is read, and each request in it has its row, up to some instant (without
  a file log the basis is the stream alone: what Envoy has not sent is not known);
- what the spool received is loaded up to some instant;
- Envoy has been seen alive, in the same life, up to some instant. When it was not, the
  journal must be settled beyond the end of that life.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import asyncpg

from runtime.contracts import TABLE_USAGE_MINUTES, TABLE_USAGE_WATERMARKS
from runtime.postgres import DatabaseUnavailable, wrap_errors
from usage_sink.errors import LedgerUnavailable

#: Envoy sends a batch after its flush interval.
_STREAM_DELAY_S: Final = 1.0


class Basis(StrEnum):
    """What a watermark rests on."""

    FILE = "file"
    STREAM = "stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Unix seconds; None: nothing is known yet."""

    now: float
    #: The oldest entry of the spool that is not loaded.
    oldest_pending: float | None
    #: By the file log; leave `basis` at STREAM when there is none.
    logged_through: float | None = None
    basis: Basis = Basis.STREAM
    #: By Envoy's own word, or by the journal.
    certain_through: float | None = None


def complete_through(facts: Facts) -> float | None:
    """The watermark; None: nothing can be claimed."""
    loaded = facts.now if facts.oldest_pending is None else facts.oldest_pending
    claims = [loaded - _STREAM_DELAY_S, facts.certain_through]
    if facts.basis is Basis.FILE:
        claims.append(facts.logged_through)
    known = [one for one in claims if one is not None]
    return min(known) if len(known) == len(claims) else None


class Certainty:
    """How long an Envoy has been known to live without a break.

    After a break nothing later than its last sign of life is certain, until the
    requests of the life that may have ended are settled.
    """

    def __init__(self, now: float, through: float | None) -> None:
        """At a start, a life may have ended while nobody looked: since `through`."""
        self._seen_at = through
        self._life: tuple[str, str] | None = None
        self._ended_before: float | None = now

    @property
    def through(self) -> float | None:
        return self._seen_at

    @property
    def ended_before(self) -> float | None:
        """A life may have ended until then, and is not settled; None: none."""
        return self._ended_before

    def seen(self, life: tuple[str, str], asked_at: float, answered_at: float) -> None:
        """Envoy has answered, in this life (its node and incarnation)."""
        if self._life is not None and self._life != life:
            self._ended_before = answered_at
        self._life = life
        if self._ended_before is None:
            self._seen_at = asked_at

    def settled(self) -> None:
        """Every request of lives that are over has its row."""
        self._ended_before = None


@dataclass(frozen=True, slots=True)
class Watermark:
    """What a node claims; `is_closed`: it has stopped, and nothing is on its way."""

    node: str
    complete_through: float
    basis: Basis
    pending: int
    is_closed: bool = False


_PUBLISH: Final = f"""
INSERT INTO {TABLE_USAGE_WATERMARKS} AS w
    (node, complete_through, basis, pending, is_closed, updated_at)
VALUES ($1, $2, $3, $4, $5, now())
ON CONFLICT (node) DO UPDATE SET
    complete_through = greatest(w.complete_through, excluded.complete_through),
    basis = excluded.basis, pending = excluded.pending,
    is_closed = excluded.is_closed, updated_at = excluded.updated_at,
    closed_by_hand_at = NULL
"""
_FIND: Final = f"SELECT complete_through FROM {TABLE_USAGE_WATERMARKS} WHERE node = $1"
# Ordered as the loader does, so that both can't wait for each other.
_ADMIT: Final = f"""
INSERT INTO {TABLE_USAGE_MINUTES} AS m (node, minute, admitted)
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::bigint[]) ORDER BY 1, 2
ON CONFLICT (node, minute) DO UPDATE SET admitted = m.admitted + excluded.admitted
"""


async def publish(pool: asyncpg.Pool, mark: Watermark) -> None:
    """Raises LedgerUnavailable: no answer."""
    through = datetime.fromtimestamp(mark.complete_through, UTC)
    await _execute(
        pool,
        _PUBLISH,
        mark.node,
        through,
        mark.basis.value,
        mark.pending,
        mark.is_closed,
    )


async def published(pool: asyncpg.Pool, node: str) -> float | None:
    """The node's watermark; raises LedgerUnavailable."""
    try:
        with wrap_errors():
            found = await pool.fetchval(_FIND, node)
    except DatabaseUnavailable as error:
        raise LedgerUnavailable(str(error)) from error
    return None if found is None else float(found.timestamp())


async def count_admitted(pool: asyncpg.Pool, minutes: Counter[tuple[str, int]]) -> None:
    """Add to the minutes of each node; raises LedgerUnavailable."""
    await _execute(
        pool,
        _ADMIT,
        [node for node, _ in minutes],
        [datetime.fromtimestamp(minute, UTC) for _, minute in minutes],
        list(minutes.values()),
    )


async def _execute(pool: asyncpg.Pool, query: str, *values: object) -> None:
    try:
        with wrap_errors():
            await pool.execute(query, *values)
    except DatabaseUnavailable as error:
        raise LedgerUnavailable(str(error)) from error
