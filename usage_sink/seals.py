"""The hash chain over the ledger: what is sealed, how heads follow. Pure.

Every transaction that adds rows adds a seal for each UTC day among them. A row names
its seal; the seal holds the digest of its rows:

    row digest    = SHA-256 of the row as PostgreSQL's text of a record, UTF-8
    seal's digest = SHA-256 of its rows' digests, in the order of (id, created_at)
    seal's head   = SHA-256 of the head before || the seal's own fields

The expression is sent with each query: a function kept in the database could be
replaced by whoever can change the rows. Heads are also written outside the database
(`heads`), so a chain that was rewritten as a whole is found.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: The chain of the rows that were there before there were seals: one seal, any day.
BEFORE_SEALS: Final = 0


class SealKind(StrEnum):
    """Which table a seal's rows are in."""

    USAGE = "usage"
    ADJUSTMENT = "adjustment"


#: Everything that is stored but what is generated from the rest. Never reorder or
#: remove: what is sealed was sealed in this order.
_USAGE: Final = (
    *("id", "user_id", "service", "model", "tokens", "credits", "metadata"),
    *("created_at", "route", "method", "status", "outcome", "duration_ms"),
    *("bytes_received", "bytes_sent", "input_tokens", "output_tokens"),
    *("cached_tokens", "reasoning_tokens", "usage_source", "pricing"),
    *("price_version", "role", "node", "recorded_at", "chain", "seal"),
)
_ADJUSTMENT: Final = (
    *("id", "usage_id", "usage_created_at", "tokens", "input_tokens"),
    *("output_tokens", "cached_tokens", "reasoning_tokens", "credits"),
    *("price_version", "reason", "author", "metadata", "created_at"),
    *("chain", "seal"),
)
SEALED: Final = {SealKind.USAGE: _USAGE, SealKind.ADJUSTMENT: _ADJUSTMENT}
_TIMES: Final = {"created_at", "recorded_at", "usage_created_at"}


def _value(column: str) -> str:
    # As a number: the text of a time depends on the session's settings.
    if column in _TIMES:
        return f"(extract(epoch FROM {column}) * 1000000)::bigint"
    return column


def rows_digest(kind: SealKind) -> str:
    """The SQL aggregate that gives a seal's digest over the rows of a group."""
    record = f"ROW({', '.join(map(_value, SEALED[kind]))})::text"
    row = f"pg_catalog.sha256(pg_catalog.convert_to({record}, 'UTF8'))"
    joined = f"pg_catalog.string_agg({row}, ''::bytea ORDER BY id, created_at)"
    return f"pg_catalog.sha256({joined})"


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one seal, as the database digested them."""

    seal: int
    kind: SealKind
    day: date
    rows: int
    digest: bytes
    sealed_at: datetime


@dataclass(frozen=True, slots=True)
class Seal:
    """A link of the chain."""

    batch: Batch
    previous: bytes
    head: bytes


def first_head(chain: str) -> bytes:
    """What the first seal of a chain follows."""
    return hashlib.sha256(chain.encode()).digest()


def head_after(previous: bytes, batch: Batch) -> bytes:
    micros = (batch.sealed_at - _EPOCH) // timedelta(microseconds=1)
    fields = (batch.seal, batch.kind.value, batch.day.isoformat(), batch.rows)
    text = "|".join((*map(str, fields), batch.digest.hex(), str(micros)))
    return hashlib.sha256(previous + text.encode()).digest()


def link(previous: bytes, batches: Sequence[Batch]) -> list[Seal]:
    """The seals of `batches`, each following the one before."""
    seals = []
    for batch in sorted(batches, key=lambda one: one.seal):
        head = head_after(previous, batch)
        seals.append(Seal(batch, previous, head))
        previous = head
    return seals
