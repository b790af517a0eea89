"""The rules of `control.usage` as SQL. Pure; values are always parameters."""

from collections.abc import Sequence
from typing import Final

from control.usage import Cursor, Sort, UsageFilter

#: In a transaction: the next rows come from an index. To sort all that there are for
#: each page would cost more than all else, at any depth the same.
BY_INDEX: Final = (
    "SET LOCAL enable_sort = off; SET LOCAL max_parallel_workers_per_gather = 0"
)


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

    def place(self, value: object) -> str:
        """Where `value` will stand in the statement."""
        self.arguments.append(value)
        return f"${len(self.arguments)}"

    def __str__(self) -> str:
        return " AND ".join(self._conditions)

    def _add(self, template: str, *values: object) -> None:
        self._conditions.append(template.format(*map(self.place, values)))


def sums(prefix: str, columns: Sequence[str]) -> str:
    """Their sums under their own names; none is null."""
    return ", ".join(
        f"coalesce(sum({prefix}{name}), 0)::bigint AS {name}" for name in columns
    )
