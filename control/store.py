"""What control keeps and asks: revisions, revocations and the ledger; with twins."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from control.completeness import Minute, Range, Watermark
from control.usage import TOTALS, Sort, Totals, UsageFilter, UsageQuery, UsageRow
from runtime.clock import Clock
from runtime.contracts.redis_keys import blacklist_token_key, blacklist_user_key


class StoreUnavailable(Exception):
    """PostgreSQL can't answer now; nothing is known to have changed."""


class QueryTimeout(Exception):
    """A question about the ledger took too long and was stopped."""


class RevocationsUnavailable(Exception):
    """Redis can't answer now; the revocation may or may not be in force."""


class Status(StrEnum):
    """What became of a revision; the newest active one is in force."""

    PENDING = "pending"
    ACTIVE = "active"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Revision:
    """One state of the document; only its status and reason ever change."""

    rev: int
    document: dict[str, Any] = field(compare=False)
    author: str
    comment: str
    created_at: datetime
    status: Status
    reason: str | None = None


class ConfigStore(Protocol):
    """The history of the document. Every method raises StoreUnavailable."""

    async def active(self) -> Revision | None:
        """The newest revision that Envoy did not refuse."""

    async def active_rev(self) -> int:
        """Its number, 0 when there is none; cheap, for who asks often."""

    def exclusive(self) -> AbstractAsyncContextManager[None]:
        """Inside, no other control changes the document."""

    async def latest_by(self, author: str) -> Revision | None:
        """The newest revision of `author`, whatever became of it."""

    async def latest_of(self, document: dict[str, Any]) -> Revision | None:
        """The newest revision of that very document, whoever wrote it."""

    async def revision(self, rev: int) -> Revision | None:
        """That one, whatever became of it."""

    async def history(self, before: int, limit: int) -> Sequence[Revision]:
        """Those of lower numbers, newest first; without their documents."""

    async def add(
        self, document: dict[str, Any], author: str, comment: str
    ) -> Revision:
        """A new pending revision."""

    async def settle(self, rev: int, status: Status, reason: str | None = None) -> None:
        """Say what became of a pending revision."""


class UsageQueries(Protocol):
    """Reads the ledger; raises StoreUnavailable."""

    async def find(self, query: UsageQuery) -> Sequence[UsageRow]:
        """Sorted; one row more than `query.limit` when there are more.

        Rows have the columns of the query, and those that a cursor is made of.
        """

    async def totals(self, chosen: UsageFilter) -> Totals:
        """What the rows add up to, with their corrections."""

    async def watermarks(self) -> Sequence[Watermark]:
        """What each node claims, by name. To hold for rows, ask before them."""

    async def minutes(self, range_: Range) -> Sequence[Minute]:
        """What each node counted, by minute and name."""


class Revocations(Protocol):
    """Writes the blacklist; raises RevocationsUnavailable."""

    async def revoke_token(self, jti: str, ttl_s: int) -> None:
        """In force for `ttl_s`."""

    async def revoke_user(self, sub: str, issued_before: float, ttl_s: int) -> None:
        """All tokens of `sub` issued before that Unix time, for `ttl_s`."""


class MemoryConfigStore:
    """For tests and tools."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._revisions: list[Revision] = []
        self._changing = asyncio.Lock()
        self.is_available = True

    async def active(self) -> Revision | None:
        return self._newest(lambda one: one.status is Status.ACTIVE)

    async def active_rev(self) -> int:
        active = await self.active()
        return 0 if active is None else active.rev

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        self._answer()
        async with self._changing:
            yield

    async def latest_by(self, author: str) -> Revision | None:
        return self._newest(lambda one: one.author == author)

    async def latest_of(self, document: dict[str, Any]) -> Revision | None:
        return self._newest(lambda one: one.document == document)

    async def revision(self, rev: int) -> Revision | None:
        return self._newest(lambda one: one.rev == rev)

    async def history(self, before: int, limit: int) -> Sequence[Revision]:
        self._answer()
        found = [one for one in reversed(self._revisions) if one.rev < before]
        return [replace(one, document={}) for one in found[:limit]]

    async def add(
        self, document: dict[str, Any], author: str, comment: str
    ) -> Revision:
        self._answer()
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        number = len(self._revisions) + 1
        revision = Revision(number, document, author, comment, now, Status.PENDING)
        self._revisions.append(revision)
        return revision

    async def settle(self, rev: int, status: Status, reason: str | None = None) -> None:
        self._answer()
        pending = self._revisions[rev - 1]
        if pending.status is Status.PENDING:
            self._revisions[rev - 1] = replace(pending, status=status, reason=reason)

    def _newest(self, wanted: Callable[[Revision], bool]) -> Revision | None:
        self._answer()
        return next((one for one in reversed(self._revisions) if wanted(one)), None)

    def _answer(self) -> None:
        if not self.is_available:
            raise StoreUnavailable


class MemoryUsageQueries:
    """For tests and tools."""

    def __init__(self, rows: Sequence[UsageRow] = ()) -> None:
        self.rows = list(rows)
        self.marks: list[Watermark] = []
        self.counts: list[Minute] = []
        self.is_available = True

    async def find(self, query: UsageQuery) -> Sequence[UsageRow]:
        if not self.is_available:
            raise StoreUnavailable
        found = [
            row
            for row in self.rows
            if query.chosen.matches(row) and query.is_behind_cursor(row)
        ]
        found.sort(key=_place, reverse=query.sort is Sort.NEWEST)
        return found[query.offset : query.offset + query.limit + 1]

    async def totals(self, chosen: UsageFilter) -> Totals:
        if not self.is_available:
            raise StoreUnavailable
        rows = list(filter(chosen.matches, self.rows))
        sums = {name: sum(row.get(name) or 0 for row in rows) for name in TOTALS}
        errors = sum(row["status"] >= _FIRST_ERROR for row in rows)
        return Totals(**{**sums, "requests": len(rows), "errors": errors})

    async def watermarks(self) -> Sequence[Watermark]:
        if not self.is_available:
            raise StoreUnavailable
        return sorted(self.marks, key=lambda mark: mark.node)

    async def minutes(self, range_: Range) -> Sequence[Minute]:
        if not self.is_available:
            raise StoreUnavailable
        found = [one for one in self.counts if range_.start <= one.minute < range_.end]
        return sorted(found, key=lambda one: (one.minute, one.node))


_FIRST_ERROR = 400


def _place(row: UsageRow) -> tuple[datetime, UUID]:
    return row["created_at"], row["id"]


class MemoryRevocations:
    """For tests and tools; `keys` as Redis would hold them."""

    def __init__(self) -> None:
        self.keys: dict[str, float] = {}
        self.is_available = True

    async def revoke_token(self, jti: str, ttl_s: int) -> None:
        self._answer()
        self.keys[blacklist_token_key(jti)] = ttl_s

    async def revoke_user(self, sub: str, issued_before: float, ttl_s: int) -> None:
        self._answer()
        self.keys[blacklist_user_key(sub)] = issued_before

    def _answer(self) -> None:
        if not self.is_available:
            raise RevocationsUnavailable
