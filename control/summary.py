"""`GET /api/usage/summary`: totals, by what they come from, and over time. Pure.

Groups are the largest ones by `sort`; what the others add up to is told as `other`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from control.largest import largest
from control.parameters import BadParameters, Reader, shown
from control.parse import Problem
from control.periods import Unit, starts
from control.usage_range import PARAMETERS, Asked, measured, named, read_range
from control.usage_totals import (
    DIMENSIONS,
    MEASURES,
    ORDERS,
    Cell,
    Cells,
    Found,
    Snapshot,
    Value,
    Where,
    added,
)

LONGEST: Final = timedelta(days=731)
DEFAULT_LIMIT: Final = 20
DEFAULT_SORT: Final = "requests"
MAX_LIMIT: Final = 200
MAX_OFFSET: Final = 100_000
MAX_PERIODS: Final = 1000
#: Groups times periods of one answer.
MAX_CELLS: Final = 10_000
KNOWN: Final = (*PARAMETERS, "groupBy", "sort", "limit", "offset")
GROUPS: Final = (*DIMENSIONS, *Unit)
_NOTHING: Final = (0,) * len(MEASURES)
_ZEROS: Final = measured(_NOTHING)

Sums = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryQuery:
    """`dimensions` are columns; `periods` is where they begin, empty without unit."""

    asked: Asked
    group_by: tuple[str, ...]
    unit: Unit | None
    periods: tuple[datetime, ...]
    sort: str
    limit: int
    offset: int

    @property
    def dimensions(self) -> tuple[str, ...]:
        return tuple(DIMENSIONS[one] for one in self.group_by if one in DIMENSIONS)


def parse_query(parameters: Mapping[str, str], now: float) -> SummaryQuery:
    """Raises BadParameters, naming every bad one."""
    reader = Reader(parameters, KNOWN)
    asked = read_range(reader, now, LONGEST)
    group_by = reader.choices("groupBy", GROUPS) or ()
    units = [Unit(one) for one in group_by if one not in DIMENSIONS]
    if len(units) > 1:
        reader.problem("groupBy", f"give at most one of {', '.join(Unit)}")
    sort = reader.choice("sort", tuple(ORDERS)) or DEFAULT_SORT
    limit = reader.number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
    offset = reader.number("offset", 0, 0, MAX_OFFSET)
    reader.done()
    unit = units[0] if units else None
    query = SummaryQuery(
        asked=asked,
        group_by=group_by,
        unit=unit,
        periods=() if unit is None else _periods(asked, unit),
        sort=sort,
        limit=limit,
        offset=offset,
    )
    if query.dimensions and limit * len(query.periods) > MAX_CELLS:
        raise _refusal(
            "limit", f"limit times periods is above {MAX_CELLS}; ask for less"
        )
    return query


def _periods(asked: Asked, unit: Unit) -> tuple[datetime, ...]:
    try:
        return starts(asked.start, asked.end, unit, asked.zone, MAX_PERIODS)
    except ValueError as error:
        raise _refusal("groupBy", str(error)) from None


def _refusal(name: str, message: str) -> BadParameters:
    return BadParameters([Problem(name, message)])


async def summarize(
    snapshot: Snapshot, query: SummaryQuery, user_ids: frozenset[str] | None
) -> dict[str, Any]:
    """The answer, but for how complete it is.

    Raises:
        RowsArchived: it can't be told any more.
    """
    return await _Summary(snapshot, query, query.asked.of(user_ids)).answer()


class _Summary:
    def __init__(self, snapshot: Snapshot, query: SummaryQuery, where: Where) -> None:
        self._snapshot = snapshot
        self._query = query
        self._where = where
        starts = [shown(one) for one in (*query.periods, query.asked.end)]
        self._spans = list(pairwise(starts)) if query.periods else []

    async def answer(self) -> dict[str, Any]:
        query = self._query
        found = Found((), 0)
        if query.dimensions:
            found = await largest(
                self._snapshot,
                self._cells(
                    dimensions=query.dimensions,
                    order=query.sort,
                    limit=query.limit,
                    offset=query.offset,
                ),
                keys_only=query.unit is not None,
            )
        groups = found.cells
        over_time = await self._over_time(groups)
        if over_time:
            groups = [_of_all_periods(one.key, over_time[one.key]) for one in groups]
        if over_time and found.groups == len(groups):
            # There is no other group: one more question would tell the same.
            whole: Sequence[Cell] = _by_period(over_time.values())
        else:
            cells = self._cells(periods=query.periods)
            whole = (await self._snapshot.cells(cells)).cells
        others = _rest(added(whole), [one.sums for one in groups])
        return {
            "range": query.asked.as_json(),
            "groupBy": list(query.group_by),
            "sort": query.sort,
            "includesAdjustments": True,
            "totals": measured(added(whole)),
            "periods": self._periods({one.period: one.sums for one in whole}),
            "items": [
                {
                    **named(query.dimensions, one.key),
                    **measured(one.sums),
                    "periods": self._periods(over_time[one.key]),
                }
                for one in groups
            ],
            "other": {
                "groups": None if found.groups is None else found.groups - len(groups),
                **measured(others),
                "periods": self._periods(_others(whole, over_time.values())),
            }
            if query.dimensions
            else None,
        }

    def _cells(self, **more: Any) -> Cells:
        asked = self._query.asked
        return Cells(
            start=asked.start,
            end=asked.end,
            **{"where": self._where, **more},
        )

    async def _over_time(
        self, groups: Sequence[Cell]
    ) -> dict[tuple[Value, ...], dict[int, Sums]]:
        """The groups' sums by period."""
        query = self._query
        found = defaultdict[tuple[Value, ...], dict[int, Sums]](dict)
        if not groups or query.unit is None:
            return found
        # The values of each dimension; what they make up otherwise is left out below.
        wanted = {one.key for one in groups}
        columns = zip(*wanted, strict=True)
        restricted = tuple(
            (dimension, tuple(sorted(set(column))))
            for dimension, column in zip(query.dimensions, columns, strict=True)
        )
        cells = self._cells(
            dimensions=query.dimensions,
            periods=query.periods,
            where=(*self._where, *restricted),
        )
        for one in (await self._snapshot.cells(cells)).cells:
            if one.key in wanted:
                found[one.key][one.period] = one.sums
        return found

    def _periods(self, sums: Mapping[int, Sums]) -> list[dict[str, Any]] | None:
        """Every period, also those in which nothing was."""
        query = self._query
        if query.unit is None:
            return None
        return [
            {
                "start": start,
                "end": end,
                **(measured(sums[at]) if at in sums else _ZEROS),
            }
            for at, (start, end) in enumerate(self._spans)
        ]


def _of_all_periods(key: tuple[Value, ...], periods: Mapping[int, Sums]) -> Cell:
    return Cell(key, 0, tuple(map(sum, zip(*periods.values(), strict=True))))


def _by_period(groups: Iterable[Mapping[int, Sums]]) -> list[Cell]:
    found = defaultdict[int, list[Cell]](list)
    for group in groups:
        for period, sums in group.items():
            found[period].append(Cell((), period, sums))
    return [Cell((), period, added(cells)) for period, cells in found.items()]


def _rest(whole: Sums, parts: Sequence[Sums]) -> Sums:
    taken = [sum(column) for column in zip(*parts, strict=True)] or _NOTHING
    return tuple(one - part for one, part in zip(whole, taken, strict=True))


def _others(whole: Sequence[Cell], groups: Any) -> dict[int, Sums]:
    groups = list(groups)
    return {
        one.period: _rest(
            one.sums, [own[one.period] for own in groups if one.period in own]
        )
        for one in whole
    }
