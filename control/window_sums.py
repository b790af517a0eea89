"""Sums of the ledger over any window of time. Pure values, the port and its twin.

Whole hours are read from the tables of sums, what is left at the edges from the rows
themselves: the sums are exact, whatever the window, while the rows of its edges are not
in archives only. Adjustments are included.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from control.store import StoreUnavailable
from control.usage import UsageRow
from runtime.contracts import LATENCY_EDGES_MS

HOUR: Final = timedelta(hours=1)
_BUCKETS: Final = len(LATENCY_EDGES_MS) + 1


@dataclass(frozen=True, slots=True)
class Window:
    """`end` is excluded."""

    start: datetime
    end: datetime

    def hours(self) -> "Window":
        """The whole hours inside; without any, it is empty."""
        start, end = _hour(self.start), _hour(self.end)
        if start < self.start:
            start += HOUR
        return Window(start, max(start, end))

    @property
    def is_empty(self) -> bool:
        return self.start >= self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which rows; None means any."""

    user_id: str | None = None
    service: str | None = None
    model: str | None = None
    route: str | None = None

    def given(self) -> dict[str, str]:
        """Column -> value, of those that are not any."""
        values = {
            "user_id": self.user_id,
            "service": self.service,
            "model": self.model,
            "route": self.route,
        }
        return {name: value for name, value in values.items() if value is not None}


ANYTHING: Final = Filter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """`errors` are answers of status 400 and above; `latency` counts by bucket."""

    requests: int = 0
    errors: int = 0
    tokens: int = 0
    credits: int = 0
    latency: tuple[int, ...] = field(default=(0,) * _BUCKETS)

    def quantile(self, share: float) -> float | None:
        """Milliseconds that so large a share of the calls took at most; None: no call.

        Read from the histogram, straight between two edges; above the last edge it is
        that edge, a lower bound.
        """
        total = sum(self.latency)
        if total == 0:
            return None
        rank, below = share * total, 0
        for place, count in enumerate(self.latency):
            if count and below + count >= rank:
                if place == len(LATENCY_EDGES_MS):
                    break
                low = LATENCY_EDGES_MS[place - 1] if place else 0
                high = LATENCY_EDGES_MS[place]
                return low + (high - low) * max(0.0, rank - below) / count
            below += count
        return float(LATENCY_EDGES_MS[-1])


class WindowSums(Protocol):
    """Adds up; raises StoreUnavailable or QueryTimeout."""

    async def sums(self, window: Window, wanted: Filter) -> Sums:
        """Over the rows that began in `window`, with their adjustments."""

    async def same_hours(
        self, hours: Sequence[datetime], wanted: Filter
    ) -> Sequence[Sums]:
        """Of each hour, in their order; zeros where there is nothing."""


class MemoryWindowSums:
    """For tests and tools, over rows like those of the ledger."""

    def __init__(self, rows: Sequence[UsageRow] = ()) -> None:
        self.rows = list(rows)
        self.is_available = True

    async def sums(self, window: Window, wanted: Filter) -> Sums:
        if not self.is_available:
            raise StoreUnavailable
        given = wanted.given().items()
        rows = [
            row
            for row in self.rows
            if window.start <= row["created_at"] < window.end
            and all(row[name] == value for name, value in given)
        ]
        latency = [0] * _BUCKETS
        for row in rows:
            latency[bisect_left(LATENCY_EDGES_MS, row["duration_ms"])] += 1
        return Sums(
            requests=len(rows),
            errors=sum(row["status"] >= 400 for row in rows),  # noqa: PLR2004 - an error
            tokens=sum(row["tokens"] for row in rows),
            credits=sum(row["credits"] for row in rows),
            latency=tuple(latency),
        )

    async def same_hours(
        self, hours: Sequence[datetime], wanted: Filter
    ) -> Sequence[Sums]:
        return [await self.sums(Window(one, one + HOUR), wanted) for one in hours]


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
