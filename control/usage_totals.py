"""Sums of the ledger: what is asked, the port, and its twin for tests. Pure."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from operator import add
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from control.completeness import Watermark
from control.store import StoreUnavailable
from runtime.contracts import LATENCY_BUCKETS, LATENCY_EDGES_MS, USAGE_SUMS

USER: Final = "user_id"
#: Columns by which may be summed, by the name that a caller uses.
DIMENSIONS: Final[Mapping[str, str]] = {
    "userId": USER,
    "service": "service",
    "model": "model",
    "route": "route",
    "statusClass": "status_class",
}
ADJUSTED: Final = ("adjusted_tokens", "adjusted_credits")
#: What a cell holds, in this order; with latency, the buckets follow.
MEASURES: Final = (*USAGE_SUMS, *ADJUSTED)
_FIRST_ERROR: Final = 400

Value = str | int
Where = tuple[tuple[str, tuple[Value, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """A question: sums of what began from `start` until `end`, by `dimensions`.

    `where` lists for columns the values that count. `periods` are where periods begin;
    the first is `start`. `order` (of `ORDERS`) and `limit` choose the largest cells.
    """

    start: datetime
    end: datetime
    dimensions: tuple[str, ...] = ()
    where: Where = ()
    periods: tuple[datetime, ...] = ()
    has_latency: bool = False
    #: Only what `order` needs is summed.
    is_ranking: bool = False
    order: str | None = None
    limit: int | None = None
    offset: int = 0

    @property
    def columns(self) -> frozenset[str]:
        """That a row must have to be counted and told apart."""
        return frozenset(self.dimensions) | {column for column, _ in self.where}

    @property
    def measures(self) -> tuple[str, ...]:
        if self.is_ranking and self.order is not None:
            return ORDERS[self.order]
        return (*MEASURES, *LATENCY_BUCKETS) if self.has_latency else MEASURES


#: By what cells can be ordered: the measures that are added up for it.
ORDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "requests": ("requests",),
    "errors": ("errors",),
    "tokens": ("tokens", "adjusted_tokens"),
    "credits": ("credits", "adjusted_credits"),
}


class Cell(NamedTuple):
    """`key` has a value for each dimension; `period` counts from 0."""

    key: tuple[Value, ...]
    period: int
    sums: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """Cells, and how many there were before `limit` and `offset` cut them.

    None: nobody counted.
    """

    cells: Sequence[Cell]
    groups: int | None


def added(cells: Iterable[Cell], width: int = len(MEASURES)) -> tuple[int, ...]:
    """The sums of all of them."""
    columns = zip(*(cell.sums for cell in cells), strict=True)
    return tuple(map(sum, columns)) or (0,) * width


class RowsArchived(Exception):
    """The rows of an hour that has to be split are in the archive only."""

    def __init__(self, day: date) -> None:
        self.day = day
        super().__init__(f"the rows of {day} are archived")


class Snapshot(Protocol):
    """The ledger at one moment; raises StoreUnavailable or QueryTimeout."""

    async def watermarks(self) -> Sequence[Watermark]:
        """What each node claims, of this moment."""

    async def state(self, start: datetime, end: datetime) -> str:
        """Another text whenever sums over that range may be others."""

    async def taken_away(self, start: datetime, end: datetime, order: str) -> int:
        """By how much corrections over that range made sums of `order` less."""

    def beside(self) -> AbstractAsyncContextManager["Snapshot"]:
        """The same moment, for what is asked at once; perhaps this one itself."""

    async def cells(self, cells: Cells) -> Found:
        """The answer; others may be asked for meanwhile.

        Raises:
            RowsArchived: rows are needed that are no longer there.
        """


class Totals(Protocol):
    """Sums of the ledger."""

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Everything that is read inside is of the same moment."""


@dataclass(slots=True)
class MemoryTotals:
    """For tests and tools: sums rows one by one.

    `rows` have the columns of the ledger; `adjustments` are (id of a row, tokens,
    credits).
    """

    rows: list[Mapping[str, Any]] = field(default_factory=list)
    adjustments: list[tuple[UUID, int, int]] = field(default_factory=list)
    marks: list[Watermark] = field(default_factory=list)
    is_available: bool = True

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator["MemoryTotals"]:
        if not self.is_available:
            raise StoreUnavailable
        yield self

    @asynccontextmanager
    async def beside(self) -> AsyncIterator["MemoryTotals"]:
        yield self

    async def watermarks(self) -> Sequence[Watermark]:
        return self.marks

    async def state(self, start: datetime, end: datetime) -> str:
        return f"{len(self.rows)} {len(self.adjustments)}"

    async def taken_away(self, start: datetime, end: datetime, order: str) -> int:
        column = {"tokens": 1, "credits": 2}.get(order)
        if column is None:
            return 0
        return -sum(min(0, int(one[column])) for one in self.adjustments)

    async def cells(self, cells: Cells) -> Found:
        sums = defaultdict[tuple[tuple[Value, ...], int], list[int]](
            lambda: [0] * len(cells.measures)
        )
        periods = cells.periods or (cells.start,)
        for row in self.rows:
            at, has = row["created_at"], _dimensions(row)
            if cells.start <= at < cells.end and all(
                has[column] in values for column, values in cells.where
            ):
                key = tuple(has[one] for one in cells.dimensions)
                total = sums[key, bisect_right(periods, at) - 1]
                total[:] = map(add, total, self._measured(row, cells))
        found = [Cell(key, at, tuple(total)) for (key, at), total in sums.items()]
        if cells.order is not None:
            order = [cells.measures.index(one) for one in ORDERS[cells.order]]
            found.sort(
                key=lambda one: (
                    -sum(one.sums[at] for at in order),
                    one.key,
                    one.period,
                )
            )
        end = None if cells.limit is None else cells.offset + cells.limit
        return Found(found[cells.offset : end], len(found))

    def _measured(self, row: Mapping[str, Any], cells: Cells) -> list[int]:
        more = [one for one in self.adjustments if one[0] == row["id"]]
        values: dict[str, int] = {
            **{name: row.get(name) or 0 for name in USAGE_SUMS},
            "requests": 1,
            "errors": int(row["status"] >= _FIRST_ERROR),
            "adjusted_tokens": sum(one[1] for one in more),
            "adjusted_credits": sum(one[2] for one in more),
        }
        values[LATENCY_BUCKETS[bisect_left(LATENCY_EDGES_MS, row["duration_ms"])]] = 1
        return [values.get(name, 0) for name in cells.measures]


def _dimensions(row: Mapping[str, Any]) -> dict[str, Value]:
    texts = {name: row[name] or "" for name in (USER, "service", "model", "route")}
    return {**texts, "status_class": row["status"] // 100}
