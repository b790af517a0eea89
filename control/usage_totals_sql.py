"""A plan as one SQL query: parts of months, days, hours and rows, added up. Text only.

Only names of ours are put into the text, values are parameters.
"""

from collections.abc import Sequence
from typing import Final

from control.usage_totals import (
    ADJUSTED,
    ORDERS,
    USER,
    Cells,
    Plan,
    Span,
    grain,
)
from runtime.contracts import (
    LATENCY_BUCKETS,
    LATENCY_EDGES_MS,
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_DAILY,
    TABLE_USAGE_DAILY_TOTALS,
    TABLE_USAGE_HOURLY,
    TABLE_USAGE_HOURLY_TOTALS,
    TABLE_USAGE_LOGS,
    TABLE_USAGE_MONTHLY,
    TABLE_USAGE_MONTHLY_TOTALS,
    USAGE_SUMS,
)

_ROW_DIMENSIONS: Final = {
    USER: "coalesce(r.user_id, '')",
    "service": "r.service",
    "model": "coalesce(r.model, '')",
    "route": "coalesce(r.route, '')",
    "status_class": "(r.status / 100)::smallint",
}
_LARGEST: Final = 2**31 - 1
_ROW_MEASURES: Final = {
    **{name: f"coalesce(r.{name}, 0)" for name in USAGE_SUMS},
    "requests": "1",
    "errors": "(r.status >= 400)::int",
    **dict.fromkeys(ADJUSTED, "0"),
    **{
        name: f"(r.duration_ms > {low} AND r.duration_ms <= {high})::int"
        for name, low, high in zip(
            LATENCY_BUCKETS,
            (-1, *LATENCY_EDGES_MS),
            (*LATENCY_EDGES_MS, _LARGEST),
            strict=True,
        )
    },
}


def query(cells: Cells, plan: Plan) -> tuple[str, list[object]]:
    """The text and its parameters.

    A row is: the dimensions, the number of the period from 1, the measures, and how
    many such rows there are without limit.
    """
    return _Query(cells).build(plan)


class _Query:
    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._arguments = list[object]()
        self._parts = list[str]()
        self._periods = (
            self._argument(list(cells.periods), "timestamptz[]")
            if len(cells.periods) > 1
            else None
        )
        self._where = [
            (column, self._argument(list(values), _array(column)))
            for column, values in cells.where
        ]

    def build(self, plan: Plan) -> tuple[str, list[object]]:
        has_user = USER in self._cells.columns
        by_day, by_month = (
            (TABLE_USAGE_DAILY, TABLE_USAGE_MONTHLY)
            if has_user
            else (TABLE_USAGE_DAILY_TOTALS, TABLE_USAGE_MONTHLY_TOTALS)
        )
        self._tier(by_month, "month", plan.months)
        self._tier(by_day, "day", plan.days)
        hourly = TABLE_USAGE_HOURLY if has_user else TABLE_USAGE_HOURLY_TOTALS
        for span in plan.hours:
            self._hours(hourly, span)
        for span in plan.rows:
            self._rows(span)
        if plan.rows:
            self._adjustments(plan.rows)
        return self._text(), self._arguments

    def _tier(self, table: str, time: str, starts: Sequence[object]) -> None:
        if not starts:
            return
        columns = {column: column for column in self._cells.columns}
        conditions = [f"{time} = ANY ({self._argument(list(starts), 'date[]')})"]
        if USER in columns:
            kept = grain(self._cells)
            conditions.append(f"grain = {self._argument(kept, 'text')}")
            for column in columns.keys() - {USER}:
                columns[column] = (
                    "value::smallint" if column == "status_class" else "value"
                )
        measures = {name: name for name in self._cells.measures}
        instant = f"{time}::timestamp AT TIME ZONE 'UTC'"
        self._part(table, instant, columns, measures, conditions)

    def _hours(self, table: str, span: Span) -> None:
        columns = {column: column for column in self._cells.columns}
        measures = {name: name for name in self._cells.measures}
        self._part(table, "hour", columns, measures, self._between("hour", span))

    def _rows(self, span: Span) -> None:
        self._part(
            f"{TABLE_USAGE_LOGS} r",
            "r.created_at",
            _ROW_DIMENSIONS,
            {name: _ROW_MEASURES[name] for name in self._cells.measures},
            self._between("r.created_at", span),
        )

    def _adjustments(self, spans: Sequence[Span]) -> None:
        starts, ends = (
            self._argument([one[at] for one in spans], "timestamptz[]") for at in (0, 1)
        )
        given = {"adjusted_tokens": "a.tokens", "adjusted_credits": "a.credits"}
        self._part(
            f"unnest({starts}, {ends}) AS span (first, last) "
            f"JOIN {TABLE_USAGE_ADJUSTMENTS} a ON a.usage_created_at >= span.first "
            f"AND a.usage_created_at < span.last JOIN {TABLE_USAGE_LOGS} r "
            "ON r.id = a.usage_id AND r.created_at = a.usage_created_at",
            "r.created_at",
            _ROW_DIMENSIONS,
            {name: given.get(name, "0") for name in self._cells.measures},
            [],
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
            f"{columns[column]} = ANY ({values})" for column, values in self._where
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

    def _text(self) -> str:
        cells = self._cells
        names = ", ".join([*cells.dimensions, "period"])
        sums = ", ".join(f"sum({name})::bigint AS {name}" for name in cells.measures)
        if not self._parts:
            return "SELECT WHERE false"
        parts = " UNION ALL ".join(self._parts)
        text = (
            f"SELECT {names}, {sums}, count(*) OVER () AS groups "  # noqa: S608
            f"FROM ({parts}) AS parts GROUP BY {names}"
        )
        if cells.order is not None:
            order = " + ".join(f"sum({name})" for name in ORDERS[cells.order])
            text += f" ORDER BY {order} DESC, {names}"
        if cells.limit is not None:
            text += f" LIMIT {self._argument(cells.limit, 'bigint')}"
            text += f" OFFSET {self._argument(cells.offset, 'bigint')}"
        return text

    def _between(self, column: str, span: Span) -> list[str]:
        first, last = (self._argument(one, "timestamptz") for one in span)
        return [f"{column} >= {first}", f"{column} < {last}"]

    def _argument(self, value: object, kind: str) -> str:
        self._arguments.append(value)
        return f"${len(self._arguments)}::{kind}"


def _array(column: str) -> str:
    return "smallint[]" if column == "status_class" else "text[]"
