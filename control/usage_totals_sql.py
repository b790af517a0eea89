"""A plan as one SQL query: months, days, hours, parts and rows, added up. Text only.

Only names of ours are put into the text, values are parameters.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from control.usage_plan import Plan, Span, grain, part_grain
from control.usage_row_sql import ROW_MEASURES
from control.usage_totals import ORDERS, USER, Cells
from runtime.contracts import (
    FUNCTION_USAGE_SUM,
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_DAILY,
    TABLE_USAGE_DAILY_TOTALS,
    TABLE_USAGE_HOURLY,
    TABLE_USAGE_HOURLY_TOTALS,
    TABLE_USAGE_LOGS,
    TABLE_USAGE_MONTHLY,
    TABLE_USAGE_MONTHLY_TOTALS,
    TABLE_USAGE_PARTS,
    TABLE_USAGE_USER_PARTS,
    TABLE_USAGE_WEEKLY,
    USAGE_DIMENSIONS,
)

_COALESCED: Final = re.compile(r"coalesce\((\S+), ''\)")
_FEW_SPANS: Final = 4
_CALLS: Final = "requests"


def query(cells: Cells, plan: Plan) -> tuple[str, list[object]]:
    """The text and its parameters.

    A row is: the dimensions, the number of the period from 1, the measures, and, when
    there is a limit, how many such rows there are without it.
    """
    return _Query(cells, plan).build()


class _Query:
    def __init__(self, cells: Cells, plan: Plan) -> None:
        self._cells = cells
        self._plan = plan
        self._arguments = list[object]()
        self._parts = list[str]()
        self._has_users = USER in dict(cells.where)
        self._periods = (
            self._instants(cells.periods) if len(cells.periods) > 1 else None
        )
        self._where = [
            (column, self._argument(list(values), _array(column)))
            for column, values in cells.where
        ]

    def build(self) -> tuple[str, list[object]]:
        self._take(self._plan)
        for one in self._plan.without:
            first = len(self._parts)
            self._take(one)
            self._parts[first:] = map(self._negative, self._parts[first:])
        return self._text(), self._arguments

    def _take(self, plan: Plan) -> None:
        has_user = USER in self._cells.columns
        by_day, by_month = (
            (TABLE_USAGE_DAILY, TABLE_USAGE_MONTHLY)
            if has_user
            else (TABLE_USAGE_DAILY_TOTALS, TABLE_USAGE_MONTHLY_TOTALS)
        )
        self._tier(by_month, "month", plan.months)
        self._weeks(plan.weeks)
        self._tier(by_day, "day", plan.days)
        hourly = TABLE_USAGE_HOURLY if has_user else TABLE_USAGE_HOURLY_TOTALS
        self._hours(hourly, plan.hours)
        self._parts_of_days(60, plan.short_hours)
        self._parts_of_days(15, plan.quarters)
        self._rows(plan.rows)
        self._adjustments(plan.rows)

    def _negative(self, part: str) -> str:
        kept = ", ".join([*self._cells.dimensions, "period"])
        less = ", ".join(f"-{name}" for name in self._summed())
        return f"SELECT {kept}, {less} FROM ({part}) AS part"  # noqa: S608 - as above

    def _summed(self) -> tuple[str, ...]:
        """The measures; with the calls where a group may have none after all."""
        measures = self._cells.measures
        if not self._plan.without or _CALLS in measures:
            return measures
        return (*measures, _CALLS)

    def _tier(self, table: str, time: str, starts: Sequence[object]) -> None:
        if not starts:
            return
        columns = {column: column for column in self._cells.columns}
        conditions = [f"{time} = ANY ({self._argument(list(starts), 'date[]')})"]
        if USER in columns:
            conditions.append(f"grain = {self._argument(grain(self._cells), 'text')}")
            columns = self._grained()
        instant = f"{time}::timestamp AT TIME ZONE 'UTC'"
        self._part(table, instant, columns, self._measures(), conditions)

    def _weeks(self, starts: Sequence[object]) -> None:
        if starts:
            self._part(
                TABLE_USAGE_WEEKLY,
                "week::timestamp AT TIME ZONE 'UTC'",
                {USER: USER},
                self._measures(),
                [f"week = ANY ({self._argument(list(starts), 'date[]')})"],
            )

    def _hours(self, table: str, spans: Sequence[Span]) -> None:
        columns = {column: column for column in self._cells.columns}
        self._spans(table, "hour", columns, self._measures(), spans)

    def _parts_of_days(self, minutes: int, spans: Sequence[Span]) -> None:
        if not spans:
            return
        table, conditions = TABLE_USAGE_USER_PARTS, [f"minutes = {minutes}"]
        if USER not in self._cells.columns:
            table = TABLE_USAGE_PARTS
            kept = self._argument(part_grain(self._cells), "text")
            conditions.append(f"grain = {kept}")
        columns, measures = self._grained(), self._measures()
        is_of_all_users = table == TABLE_USAGE_USER_PARTS and not self._has_users
        if is_of_all_users or len(spans) <= _FEW_SPANS:
            self._spans(table, "start", columns, measures, spans, conditions)
            return
        # Looked for at once, and so read in the order of their pages.
        conditions += self._starts(spans, timedelta(minutes=minutes))
        self._part(table, "start", columns, measures, conditions)

    def _starts(self, spans: Sequence[Span], step: timedelta) -> list[str]:
        """The parts within `spans`: themselves, or, if these are most, all but some."""
        first, last = spans[0][0], spans[-1][1]
        inside = sum((end - start for start, end in spans), timedelta())
        if inside < (last - first) / 2:
            return [f"start = ANY ({self._instants(_steps(spans, step))})"]
        gaps = [(one[1], after[0]) for one, after in pairwise(spans)]
        return [
            f"start >= {self._argument(first, 'timestamptz')}",
            f"start < {self._argument(last, 'timestamptz')}",
            f"start <> ALL ({self._instants(_steps(gaps, step))})",
        ]

    def _instants(self, instants: Iterable[datetime]) -> str:
        return self._argument(list(instants), "timestamptz[]")

    def _rows(self, spans: Sequence[Span]) -> None:
        measures = {name: ROW_MEASURES[name] for name in self._summed()}
        table = f"{TABLE_USAGE_LOGS} r"
        for some in _apart(spans):
            self._spans(table, "r.created_at", USAGE_DIMENSIONS, measures, some)

    def _adjustments(self, spans: Sequence[Span]) -> None:
        given = {"adjusted_tokens": "a.tokens", "adjusted_credits": "a.credits"}
        measures = {name: given.get(name, "0") for name in self._summed()}
        for some in _apart(spans):
            # Of the rows, too: else a plan is made for the partitions of every day.
            first, last = (
                self._argument(at, "timestamptz") for at in (some[0][0], some[-1][1])
            )
            self._spans(
                f"{TABLE_USAGE_ADJUSTMENTS} a JOIN {TABLE_USAGE_LOGS} r "
                "ON r.id = a.usage_id AND r.created_at = a.usage_created_at",
                "a.usage_created_at",
                USAGE_DIMENSIONS,
                measures,
                some,
                [f"r.created_at >= {first}", f"r.created_at < {last}"],
            )

    def _measures(self) -> dict[str, str]:
        return {name: name for name in self._summed()}

    def _grained(self) -> dict[str, str]:
        """Columns where one of them is kept as text in `value`."""
        columns = dict.fromkeys(self._cells.columns, "value")
        if "status_class" in columns:
            columns["status_class"] = "value::smallint"
        if USER in columns:
            columns[USER] = USER
        return columns

    def _spans(
        self,
        table: str,
        instant: str,
        columns: dict[str, str],
        measures: dict[str, str],
        spans: Sequence[Span],
        conditions: Sequence[str] = (),
    ) -> None:
        """What is within `spans`: each looked for by index, if there are many."""
        if not spans:
            return
        if len(spans) == 1:
            first, last = (self._argument(one, "timestamptz") for one in spans[0])
        else:
            first, last = "span.first", "span.last"
        within = [f"{instant} >= {first}", f"{instant} < {last}"]
        if table == TABLE_USAGE_USER_PARTS and not self._has_users:
            # Of all users: there is no index by the instant alone.
            days = (f"({at} AT TIME ZONE 'UTC')::date" for at in (first, last))
            within.append(f"day BETWEEN {' AND '.join(days)}")
        self._part(table, instant, columns, measures, [*conditions, *within])
        if len(spans) > 1:
            starts, ends = (self._instants(one[at] for one in spans) for at in (0, 1))
            # OFFSET: a subquery of its own, so that no plan reads all to join it.
            self._parts[-1] = (
                f"SELECT part.* FROM unnest({starts}, {ends}) AS span (first, last) "  # noqa: S608 - as above
                f"CROSS JOIN LATERAL ({self._parts[-1]} OFFSET 0) AS part"
            )

    def _part(
        self,
        table: str,
        instant: str,
        columns: dict[str, str],
        measures: dict[str, str],
        conditions: list[str],
    ) -> None:
        """One of the relations that are added up."""
        conditions = conditions + [
            f"{self._wanted(column, columns[column])} = ANY ({values})"
            for column, values in self._where
        ]
        names = [f"{columns[one]} AS {one}" for one in self._cells.dimensions]
        period = (
            "1"
            if self._periods is None
            else f"width_bucket({instant}, {self._periods})"
        )
        values = [f"{value} AS {name}" for name, value in measures.items()]
        chosen = ", ".join([*names, f"{period} AS period", *values])
        self._parts.append(
            f"SELECT {chosen} FROM {table} WHERE {' AND '.join(conditions) or 'true'}"  # noqa: S608
        )

    def _wanted(self, column: str, value: str) -> str:
        """Where none is not looked for, the column itself is, which has an index."""
        coalesced = _COALESCED.fullmatch(value)
        has_none = "" in dict(self._cells.where)[column]
        return value if has_none or coalesced is None else coalesced[1]

    def _text(self) -> str:
        cells = self._cells
        names = ", ".join([*cells.dimensions, "period"])
        sums = [f"{FUNCTION_USAGE_SUM}({name}) AS {name}" for name in cells.measures]
        if cells.limit is not None:
            sums.append("count(*) OVER () AS groups")
        if not self._parts:
            return "SELECT WHERE false"
        parts = " UNION ALL ".join(self._parts)
        text = (
            f"SELECT {names}, {', '.join(sums)} "  # noqa: S608
            f"FROM ({parts}) AS parts GROUP BY {names}"
        )
        if self._plan.without:
            text += f" HAVING {FUNCTION_USAGE_SUM}({_CALLS}) > 0"
        if cells.order is not None:
            order = " + ".join(
                f"{FUNCTION_USAGE_SUM}({name})" for name in ORDERS[cells.order]
            )
            text += f" ORDER BY {order} DESC, {names}"
        if cells.limit is not None:
            text += f" LIMIT {self._argument(cells.limit, 'bigint')}"
            text += f" OFFSET {self._argument(cells.offset, 'bigint')}"
        return text

    def _argument(self, value: object, kind: str) -> str:
        self._arguments.append(value)
        return f"${len(self._arguments)}::{kind}"


def _apart(spans: Sequence[Span]) -> Sequence[Sequence[Span]]:
    """A few each on its own: only so are other days' partitions left out of a plan."""
    return [[one] for one in spans] if len(spans) <= _FEW_SPANS else [spans]


def _steps(spans: Iterable[Span], step: timedelta) -> Iterator[datetime]:
    for start, end in spans:
        for at in range((end - start) // step):
            yield start + at * step


def _array(column: str) -> str:
    return "smallint[]" if column == "status_class" else "text[]"
