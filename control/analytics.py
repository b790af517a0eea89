"""`GET /api/usage/analytics`: what happened, compared with before and what may come.

Pure: reads through the port. One question gives sums by hour, from which trend,
comparison, peaks, growth and anomalies are computed (`trends`); another gives services,
models and routes with error rates and latencies, the last the largest users.
"""

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from control import trends
from control.largest import largest
from control.parameters import BadParameters, Reader, shown
from control.parse import Problem
from control.periods import (
    Unit,
    after,
    ceil_hour,
    floor,
    floor_hour,
    hours,
    starts,
)
from control.together import together
from control.trends import BASELINE_WEEKS, HOUR, Hour
from control.usage_range import PARAMETERS, Asked, measured, named, read_range
from control.usage_totals import (
    ADJUSTED,
    MEASURES,
    USER,
    Cell,
    Cells,
    Found,
    Snapshot,
    Where,
    added,
)

LONGEST: Final = timedelta(days=186)
DEFAULT_LIMIT: Final = 10
DEFAULT_SORT: Final = "requests"
MAX_LIMIT: Final = 50
MAX_PERIODS: Final = 1000
KNOWN: Final = (*PARAMETERS, "interval", "sort", "limit")
SORTS: Final = ("requests", "tokens", "credits")
_NOTHING: Final = (0,) * len(MEASURES)
#: Where in sums the figures are that are watched.
_REQUESTS, _ERRORS, _TOKENS, _CREDITS, _MORE_TOKENS, _MORE_CREDITS = map(
    MEASURES.index, ("requests", "errors", "tokens", "credits", *ADJUSTED)
)
#: Rows of the table of routes.
_MOST_ROUTES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyticsQuery:
    """`periods` are where those of the trend begin."""

    asked: Asked
    interval: Unit
    periods: tuple[datetime, ...]
    sort: str
    limit: int
    #: When it is: days that are not over tell nothing of growth.
    hour: datetime

    @property
    def before(self) -> datetime:
        """Where the range begins that this one is compared with."""
        return self.asked.start - (self.asked.end - self.asked.start)

    @property
    def first(self) -> datetime:
        """From here on the ledger is read."""
        weeks = floor_hour(self.asked.start) - timedelta(weeks=BASELINE_WEEKS)
        return min(self.before, weeks)


def parse_query(parameters: Mapping[str, str], now: float) -> AnalyticsQuery:
    """Raises BadParameters, naming every bad one."""
    reader = Reader(parameters, KNOWN)
    asked = read_range(reader, now, LONGEST)
    interval = Unit(reader.choice("interval", tuple(Unit)) or Unit.DAY)
    sort = reader.choice("sort", SORTS) or DEFAULT_SORT
    limit = reader.number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
    reader.done()
    try:
        periods = starts(asked.start, asked.end, interval, asked.zone, MAX_PERIODS)
    except ValueError as error:
        raise BadParameters([Problem("interval", str(error))]) from None
    return AnalyticsQuery(
        asked=asked,
        interval=interval,
        periods=periods,
        sort=sort,
        limit=limit,
        hour=floor_hour(datetime.fromtimestamp(now, UTC)),
    )


async def analyse(
    snapshot: Snapshot, query: AnalyticsQuery, user_ids: frozenset[str] | None
) -> dict[str, Any]:
    """The answer, but for how complete it is.

    Raises:
        RowsArchived: it can't be told any more.
    """
    asked, where = query.asked, query.asked.of(user_ids)
    whole = Cells(start=asked.start, end=asked.end, where=where)
    by_route = replace(
        whole, dimensions=("service", "model", "route"), has_latency=True
    )
    by_user = replace(whole, dimensions=(USER,), order=query.sort, limit=query.limit)
    is_one_user = user_ids is not None and len(user_ids) == 1
    async with snapshot.beside() as other:
        series, calls, users = await together(
            _series(other, query, where),
            (snapshot if is_one_user else other).cells(by_route),
            _nothing() if is_one_user else largest(snapshot, by_user),
        )
    services, models, routes = (
        _together(calls.cells, at) for at in ((0,), (0, 1), (0, 2))
    )
    return {
        "range": asked.as_json(),
        "interval": query.interval.value,
        "includesAdjustments": True,
        "methods": dict(trends.METHODS),
        **series,
        "topUsers": None if users is None else _listed((USER,), users),
        "topServices": _largest(query, ("service",), services),
        "topModels": _largest(query, ("service", "model"), models),
        "byService": [_performance(("service",), one) for one in services],
        "byRoute": [
            _performance(("service", "route"), one) for one in routes[:_MOST_ROUTES]
        ],
    }


async def _series(
    snapshot: Snapshot, query: AnalyticsQuery, where: Where
) -> dict[str, Any]:
    """Computed while the database works on the rest, and while others are answered."""
    grid, asked = _grid(query), query.asked
    cells = Cells(start=query.first, end=asked.end, where=where, periods=grid)
    found = await snapshot.cells(cells)
    return await asyncio.to_thread(_Series(query, grid, found.cells).answer)


async def _nothing() -> None:
    """Asked of nobody."""


def _grid(query: AnalyticsQuery) -> tuple[datetime, ...]:
    """Hours, and what else may begin within one."""
    asked = query.asked
    edges = {query.first, query.before, asked.start, *query.periods, *_days(asked)}
    return tuple(sorted(edges.union(hours(query.first, asked.end))))


def _days(asked: Asked) -> tuple[datetime, ...]:
    return starts(asked.start, asked.end, Unit.DAY, asked.zone, MAX_PERIODS)


class _Series:
    """Sums from `first` to the end of the range, in the parts of the grid."""

    def __init__(
        self,
        query: AnalyticsQuery,
        grid: Sequence[datetime],
        cells: Iterable[Cell],
    ) -> None:
        self._query = query
        self._parts = sorted(cells, key=lambda one: one.period)
        self._starts = [grid[one.period] for one in self._parts]

    def answer(self) -> dict[str, Any]:
        query, asked = self._query, self._query.asked
        now = self._measured(asked.start, asked.end)
        before = self._measured(query.before, asked.start)
        ends = (*query.periods[1:], asked.end)
        all_hours = self._hours()
        over = min(asked.end, query.hour)
        within = [one for one in all_hours if asked.start <= one.start < over]
        peaks = trends.peak_hours(within, asked.zone)
        busiest = peaks["busiest"]
        return {
            "totals": now,
            "comparison": {
                "start": shown(query.before),
                "end": shown(asked.start),
                "totals": before,
                "change": trends.change(now, before),
            },
            "trend": [
                {"start": shown(start), "end": shown(end), **self._measured(start, end)}
                for start, end in zip(query.periods, ends, strict=True)
            ],
            "peakHours": peaks,
            "growth": trends.growth(
                self._whole_days(over), busiest and busiest["requestsPerSecond"]
            ),
            "anomalies": trends.anomalies(
                all_hours, ceil_hour(asked.start), over, asked.zone
            ),
        }

    def _measured(self, start: datetime, end: datetime) -> dict[str, Any]:
        return measured(self._sums(start, end))

    def _sums(self, start: datetime, end: datetime) -> tuple[int, ...]:
        first, last = (bisect_left(self._starts, one) for one in (start, end))
        if first == last:
            return _NOTHING
        if last - first == 1:
            return self._parts[first].sums
        return added(self._parts[first:last])

    def _hours(self) -> list[Hour]:
        """All whole hours, also those in which nothing was."""
        return [
            Hour(start, _values(self._sums(start, start + HOUR)))
            for start in hours(self._query.first, self._query.asked.end)
            if start + HOUR <= self._query.asked.end
        ]

    def _whole_days(self, over: datetime) -> list[Mapping[str, int]]:
        """Whole local days of the range that are over."""
        asked = self._query.asked
        days = _days(asked)
        spans = zip(days, (*days[1:], asked.end), strict=True)
        return [
            _values(self._sums(*one))
            for one in spans
            if one[1] <= over and _is_a_day(one, asked.zone)
        ]


def _is_a_day(span: tuple[datetime, datetime], zone: ZoneInfo) -> bool:
    start, end = span
    return floor(start, Unit.DAY, zone) == start and after(start, Unit.DAY, zone) == end


def _values(sums: Sequence[int]) -> Mapping[str, int]:
    """The figures that are watched, corrections included."""
    return {
        "requests": sums[_REQUESTS],
        "errors": sums[_ERRORS],
        "tokens": sums[_TOKENS] + sums[_MORE_TOKENS],
        "credits": sums[_CREDITS] + sums[_MORE_CREDITS],
    }


def _together(cells: Iterable[Cell], places: tuple[int, ...]) -> list[Cell]:
    """Cells by fewer of their dimensions, most requests first."""
    found = defaultdict[Any, list[Cell]](list)
    for one in cells:
        found[tuple(one.key[at] for at in places)].append(one)
    summed = [Cell(key, 0, added(ones)) for key, ones in found.items()]
    return sorted(summed, key=lambda one: (-one.sums[0], one.key))


def _largest(
    query: AnalyticsQuery, dimensions: Sequence[str], cells: Sequence[Cell]
) -> list[dict[str, Any]]:
    chosen = sorted(cells, key=lambda one: (-_values(one.sums)[query.sort], one.key))
    return _listed(dimensions, Found(chosen[: query.limit], None))


def _listed(dimensions: Sequence[str], found: Found) -> list[dict[str, Any]]:
    return [{**named(dimensions, one.key), **measured(one.sums)} for one in found.cells]


def _performance(dimensions: Sequence[str], cell: Cell) -> dict[str, Any]:
    sums = measured(cell.sums)
    return {
        **named(dimensions, cell.key),
        **{
            name: sums[name]
            for name in ("requests", "errors", "errorRate", "averageMs")
        },
        **trends.quantiles(cell.sums[len(MEASURES) :]),
    }
