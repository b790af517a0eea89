"""The rules of `control.usage` as SQL. Pure; values are always parameters."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from control.usage import Cursor, Sort, UsageFilter
from control.usage_plan import Span
from runtime.contracts import (
    TABLE_USAGE_ARCHIVES,
    TABLE_USAGE_DAILY,
    TABLE_USAGE_DAILY_TOTALS,
    TABLE_USAGE_HOURLY,
    TABLE_USAGE_HOURLY_TOTALS,
    TABLE_USAGE_TIERS,
    USAGE_DAY_IS_AWAY,
)

#: In a transaction: the next rows come from an index. To sort all that there are for
#: each page would cost more than all else, at any depth the same.
BY_INDEX: Final = (
    "SET LOCAL enable_sort = off; SET LOCAL max_parallel_workers_per_gather = 0"
)

#: In a transaction: few days are looked at, which may be read through two indexes.
ANY_WAY: Final = "SET LOCAL jit = off; SET LOCAL plan_cache_mode = force_custom_plan"
#: Together in one step.
_MOST_DAYS: Final = timedelta(days=31)
#: Of each closed day whose rows are there: how many of them there are at most.
_DAYS: Final = f"""
SELECT t.start, least({{counts}})::bigint FROM {TABLE_USAGE_TIERS} t {{joins}}
WHERE t.period = 'day' AND NOT t.is_stale AND NOT EXISTS (
    SELECT FROM {TABLE_USAGE_ARCHIVES} a
    WHERE a.day = t.start AND {USAGE_DAY_IS_AWAY})
"""  # noqa: S608 - only names of ours


class Where:
    """Conditions with their arguments; `str()` of it goes behind WHERE."""

    def __init__(self, chosen: UsageFilter, *arguments: object) -> None:
        """`arguments` are those that the statement has before it."""
        self.arguments = list(arguments)
        self._conditions = ["true"]
        for column, wanted in chosen.equalities().items():
            if wanted is not None:
                self._add(f"{column} = {{}}", wanted)
        if chosen.user_ids is not None:
            self._add("user_id = ANY({})", sorted(chosen.user_ids))
        if chosen.statuses is not None:
            statuses = chosen.statuses
            self._add("status BETWEEN {} AND {}", statuses.least, statuses.most)
        if chosen.is_of_failed:
            # What the index `usage_logs_failed` says: a planner believes no parameter.
            self._conditions.append("(status >= 400 OR outcome <> 'ok')")
        if chosen.start is not None:
            self._add("created_at >= {}", chosen.start)
        if chosen.end is not None:
            self._add("created_at < {}", chosen.end)

    def add_cursor(self, cursor: Cursor, sort: Sort) -> None:
        """What comes behind it. By the time alone partitions are left out."""
        sign = "<" if sort is Sort.NEWEST else ">"
        self._add(f"(created_at, id) {sign} ({{}}, {{}})", *cursor.place)
        self._add(f"created_at {sign}= {{}}", cursor.created_at)

    def add_spans(self, spans: Sequence[Span]) -> str:
        """Within one of them, which are in order; goes behind FROM.

        Each is looked for by index. Where all are is said with values, so that other
        days are left out of the plan.
        """
        starts, ends = ([one[at] for one in spans] for at in (0, 1))
        self._add("created_at >= {}", starts[0])
        self._add("created_at < {}", ends[-1])
        if len(spans) == 1:
            return ""
        self._conditions.append("created_at >= span.first AND created_at < span.last")
        texts = (f"{self.place(one)}::timestamptz[]" for one in (starts, ends))
        return f"unnest({', '.join(texts)}) AS span (first, last)"

    def place(self, value: object) -> str:
        """Where `value` will stand in the statement."""
        self.arguments.append(value)
        return f"${len(self.arguments)}"

    def __str__(self) -> str:
        return " AND ".join(self._conditions)

    def _add(self, template: str, *values: object) -> None:
        self._conditions.append(template.format(*map(self.place, values)))


def days_with(chosen: UsageFilter) -> tuple[str, list[object]] | None:
    """A question for (day, how many rows at most), with its arguments.

    None: the sums don't know better than an index of the rows does.
    """
    equal = _dimensions(chosen)
    is_of_one_index = len(equal) + (chosen.user_id is not None) < 2  # noqa: PLR2004
    if chosen.user_ids is not None or not equal:
        return None
    if is_of_one_index and chosen.statuses is None:
        return None
    arguments: list[object] = [str(value) for value in equal.values()]
    conditions = [f"{name}::text = ${at}" for at, name in enumerate(equal, 1)]
    tables = [f"{TABLE_USAGE_DAILY_TOTALS} WHERE {' AND '.join(conditions)}"]
    if chosen.user_id is not None:
        arguments.append(chosen.user_id)
        tables += [
            f"{TABLE_USAGE_DAILY} WHERE user_id = ${len(arguments)} "
            f"AND grain = '{name}' AND value = ${at}"
            for at, name in enumerate(equal, 1)
        ]
    joins = " ".join(
        f"LEFT JOIN (SELECT day, sum(requests) AS most FROM {table} GROUP BY 1) "  # noqa: S608
        f"AS c{at} ON c{at}.day = t.start"
        for at, table in enumerate(tables)
    )
    counts = ", ".join(f"coalesce(c{at}.most, 0)" for at in range(len(tables)))
    return _DAYS.format(counts=counts, joins=joins), arguments


def hours_with(
    chosen: UsageFilter, spans: Sequence[Span]
) -> tuple[str, list[object]] | None:
    """A question for the hours that have such rows; None: not for what is not closed.

    Only for few days: all hours of them are read.
    """
    if any(end - start > _MOST_DAYS for start, end in spans):
        return None
    equal = _dimensions(chosen)
    table = TABLE_USAGE_HOURLY_TOTALS
    if chosen.user_id is not None:
        equal["user_id"], table = chosen.user_id, TABLE_USAGE_HOURLY
    arguments: list[object] = [*equal.values()]
    conditions = [f"{name} = ${at}" for at, name in enumerate(equal, 1)]
    within = []
    for start, end in spans:
        arguments += (start - timedelta(hours=1), end)
        within.append(f"hour > ${len(arguments) - 1} AND hour < ${len(arguments)}")
    conditions.append(f"({' OR '.join(within)})")
    text = f"SELECT DISTINCT hour FROM {table} WHERE {' AND '.join(conditions)}"  # noqa: S608
    return text, arguments


def _dimensions(chosen: UsageFilter) -> dict[str, object]:
    """What of the filter the sums know, but for the user."""
    found: dict[str, object] = {
        name: value
        for name, value in chosen.equalities().items()
        if name in ("service", "model") and value is not None
    }
    if chosen.statuses is not None:
        found["status_class"] = chosen.statuses.least // 100
    return found


def sums(prefix: str, columns: Sequence[str]) -> str:
    """Their sums under their own names; none is null."""
    return ", ".join(
        f"coalesce(sum({prefix}{name}), 0)::bigint AS {name}" for name in columns
    )
