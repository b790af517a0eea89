"""What waits to be written: groups of entries, bounded by rows. Pure.

A group is what one Export call brought; it is written as a whole and its caller is
answered when it is. Rows count against the bound until `release`: what is being
written is memory too.
"""

from collections import deque
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """A group; `rows` is its share of the bound."""

    @property
    def rows(self) -> int: ...


_G = TypeVar("_G", bound=Sized)


@dataclass(frozen=True, slots=True)
class Limits:
    """`batch_rows` are written at once, or what came within `wait_s`."""

    batch_rows: int
    wait_s: float
    capacity_rows: int


class Buffer(Generic[_G]):
    """First in, first out; the caller passes monotonic time in."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: deque[tuple[float, _G]] = deque()
        self._waiting_rows = 0
        self._taken_rows = 0

    def __repr__(self) -> str:
        return f"<Buffer {self._waiting_rows} waiting, {self._taken_rows} taken>"

    @property
    def rows(self) -> int:
        """Rows in memory: waiting and taken."""
        return self._waiting_rows + self._taken_rows

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def offer(self, group: _G, now: float) -> bool:
        """Take `group` in; False when that would exceed the bound.

        An empty buffer takes any group: one that is larger than the bound could
        otherwise never be written.
        """
        if self.rows and self.rows + group.rows > self._limits.capacity_rows:
            return False
        self._waiting.append((now, group))
        self._waiting_rows += group.rows
        return True

    def due_in(self, now: float) -> float | None:
        """Seconds until a batch should be taken, 0 when now; None when empty."""
        if not self._waiting:
            return None
        if self._waiting_rows >= self._limits.batch_rows:
            return 0.0
        oldest = self._waiting[0][0]
        return max(0.0, oldest + self._limits.wait_s - now)

    def take(self) -> list[_G]:
        """The next batch: whole groups, at least one, else up to `batch_rows`."""
        batch: list[_G] = []
        rows = 0
        while self._waiting:
            group = self._waiting[0][1]
            if batch and rows + group.rows > self._limits.batch_rows:
                break
            batch.append(group)
            rows += group.rows
            self._waiting.popleft()
        self._waiting_rows -= rows
        self._taken_rows += rows
        return batch

    def take_all(self) -> list[_G]:
        """Everything that waits."""
        groups = [group for _, group in self._waiting]
        self._waiting.clear()
        self._taken_rows += self._waiting_rows
        self._waiting_rows = 0
        return groups

    def release(self, groups: list[_G]) -> None:
        """Groups from `take` are no longer held."""
        self._taken_rows -= sum(group.rows for group in groups)
