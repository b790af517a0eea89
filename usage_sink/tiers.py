"""Sums of closed UTC days and months, made from the sums by hour. SQL text only.

By user there is one row for each user and *grain*: over everything, and by service,
model, route or status class alone. All of these together at once would be almost as
many rows as there are by hour. `…_totals` sum over all users, with the latency, by all
four at once.

`usage_tiers` says which periods have been summed. Whoever adds rows takes a shared
lock of their days and marks what is summed of them as stale, in the same transaction;
whoever sums takes the exclusive lock. So a period that is not stale holds exactly what
the hours hold, in every snapshot; and so does what is kept of its parts (`parts`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Final

from runtime.contracts import (
    LATENCY_BUCKETS,
    TABLE_USAGE_ARCHIVES,
    TABLE_USAGE_DAILY,
    TABLE_USAGE_DAILY_TOTALS,
    TABLE_USAGE_HOURLY,
    TABLE_USAGE_HOURLY_TOTALS,
    TABLE_USAGE_MONTHLY,
    TABLE_USAGE_MONTHLY_TOTALS,
    TABLE_USAGE_PARTS,
    TABLE_USAGE_TIERS,
    TABLE_USAGE_USER_PARTS,
    TABLE_USAGE_WEEKLY,
    USAGE_DAY_IS_AWAY,
    USAGE_SUMS,
)
from usage_sink import parts, rollups
from usage_sink.days import bounds
from usage_sink.parts import ADDED
from usage_sink.parts import sums as _sum

#: "hubt" in ASCII; the second key of each lock is the day.
_LOCKS: Final = 0x68756274

_COUNTED: Final = (*USAGE_SUMS, *LATENCY_BUCKETS, "adjusted_tokens", "adjusted_credits")
_BY_ALL: Final = ("service", "model", "route", "status_class")


class Period(StrEnum):
    """What a tier sums up."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    def bounds(self, start: date) -> tuple[date, date]:
        """Of what a period that begins at `start` is summed: instants, or days."""
        if self is Period.WEEK:
            return start, start + timedelta(days=7)
        if self is Period.MONTH:
            return start, next_month(start)
        return bounds(start)


def last_day(period: Period, start: date) -> date:
    """Of the period that begins at `start`."""
    if period is Period.MONTH:
        return next_month(start) - timedelta(days=1)
    return start + timedelta(days=6 if period is Period.WEEK else 0)


def next_month(month: date) -> date:
    return (month.replace(day=28) + timedelta(days=4)).replace(day=1)


@dataclass(frozen=True, slots=True)
class Sums:
    """A table, and what it holds of the period $1, summed from $2 until $3."""

    table: str
    period: Period
    columns: tuple[str, ...]
    calculated: str
    #: Which of the table's rows.
    chosen: str = "true"

    @property
    def delete(self) -> str:
        return (
            f"DELETE FROM {self.table} WHERE {self.period.value} = $1 AND {self.chosen}"
        )

    @property
    def insert(self) -> str:
        names = ", ".join((self.period.value, *self.columns))
        return f"INSERT INTO {self.table} ({names}) {self.calculated}"

    @property
    def differences(self) -> str:
        """How many rows are not what they must be."""
        names = ", ".join((self.period.value, *self.columns))
        kept = (
            f"SELECT {names} FROM {self.table} "
            f"WHERE {self.period.value} = $1 AND {self.chosen}"
        )
        return rollups.count_of_differences(self.calculated, kept)


_BY_USER: Final = ("grain", "value", "user_id")
SUMS: Final = {
    Period.DAY: (
        Sums(
            TABLE_USAGE_DAILY,
            Period.DAY,
            (*_BY_USER, *ADDED),
            f"""
SELECT $1::date, CASE WHEN GROUPING(service) = 0 THEN 'service'
        WHEN GROUPING(model) = 0 THEN 'model' WHEN GROUPING(route) = 0 THEN 'route'
        WHEN GROUPING(status_class) = 0 THEN 'status_class' ELSE 'user' END,
    coalesce(service, model, route, status_class::text, ''), user_id, {_sum(ADDED)}
FROM {TABLE_USAGE_HOURLY} WHERE hour >= $2 AND hour < $3
GROUP BY GROUPING SETS ((user_id), (user_id, service), (user_id, model),
    (user_id, route), (user_id, status_class))
ORDER BY 2, 4
""",
        ),
        Sums(
            TABLE_USAGE_DAILY_TOTALS,
            Period.DAY,
            (*_BY_ALL, *_COUNTED),
            f"""
SELECT $1::date, {", ".join(_BY_ALL)}, {_sum(_COUNTED)}
FROM {TABLE_USAGE_HOURLY_TOTALS} WHERE hour >= $2 AND hour < $3
GROUP BY {", ".join(_BY_ALL)}
""",
        ),
        Sums(
            TABLE_USAGE_PARTS,
            Period.DAY,
            parts.PART_COLUMNS,
            parts.HOURS,
            "minutes = 60",
        ),
        Sums(
            TABLE_USAGE_USER_PARTS,
            Period.DAY,
            parts.USER_COLUMNS,
            parts.USER_HOURS,
            "minutes = 60",
        ),
    ),
    Period.WEEK: (
        Sums(
            TABLE_USAGE_WEEKLY,
            Period.WEEK,
            ("user_id", *ADDED),
            f"""
SELECT $1::date, user_id, {_sum(ADDED)}
FROM {TABLE_USAGE_DAILY} WHERE grain = 'user' AND day >= $2 AND day < $3
GROUP BY user_id
""",
        ),
    ),
    Period.MONTH: (
        Sums(
            TABLE_USAGE_MONTHLY,
            Period.MONTH,
            (*_BY_USER, *ADDED),
            f"""
SELECT $1::date, grain, value, user_id, {_sum(ADDED)}
FROM {TABLE_USAGE_DAILY} WHERE day >= $2 AND day < $3
GROUP BY grain, value, user_id ORDER BY grain, user_id
""",
        ),
        Sums(
            TABLE_USAGE_MONTHLY_TOTALS,
            Period.MONTH,
            (*_BY_ALL, *_COUNTED),
            f"""
SELECT $1::date, {", ".join(_BY_ALL)}, {_sum(_COUNTED)}
FROM {TABLE_USAGE_DAILY_TOTALS} WHERE day >= $2 AND day < $3
GROUP BY {", ".join(_BY_ALL)}
""",
        ),
    ),
}

#: Of a day whose rows are there.
QUARTERS: Final = (
    Sums(
        TABLE_USAGE_PARTS,
        Period.DAY,
        parts.PART_COLUMNS,
        parts.QUARTERS,
        "minutes = 15",
    ),
    Sums(
        TABLE_USAGE_USER_PARTS,
        Period.DAY,
        parts.USER_COLUMNS,
        parts.USER_QUARTERS,
        "minutes = 15",
    ),
)

_IS_ARCHIVED: Final = f"""
SELECT FROM {TABLE_USAGE_ARCHIVES} AS a
WHERE a.day = {{day}} AND {USAGE_DAY_IS_AWAY}
"""
#: The rows of the day $1 are not in the ledger.
IS_ARCHIVED: Final = f"SELECT EXISTS ({_IS_ARCHIVED.format(day='$1')})"
#: Of a week: what its version is when it was made from its days as they are now. So
#: who adds rows to a day need not know of weeks.
_OF_ITS_DAYS: Final = f"""
SELECT sum(d.version) FROM {TABLE_USAGE_TIERS} AS d
WHERE d.period = 'day' AND NOT d.is_stale
    AND d.start >= {{week}} AND d.start < {{week}} + 7
HAVING count(*) = 7
"""
#: Periods whose sums are current, and of which days the quarters can be compared.
SUMMED: Final = f"""
SELECT period, start, version, has_quarters AND NOT EXISTS (
    {_IS_ARCHIVED.format(day="t.start")}) AS has_quarters
FROM {TABLE_USAGE_TIERS} AS t
WHERE NOT is_stale
    AND (period <> 'week' OR version = ({_OF_ITS_DAYS.format(week="t.start")}))
ORDER BY period, start
"""
#: The version for the week $1; null: not all of its days are current.
VERSION_OF_WEEK: Final = _OF_ITS_DAYS.format(week="$1::date")
#: The week $1 has its sums, of version $2.
CURRENT_WEEK: Final = f"""
INSERT INTO {TABLE_USAGE_TIERS} (period, start, is_stale, version)
VALUES ('week', $1, false, $2)
ON CONFLICT (period, start) DO UPDATE SET version = $2, compacted_at = now()
"""
#: The period $1 that begins at $2 has its sums; $3: of quarters, too.
CURRENT: Final = f"""
INSERT INTO {TABLE_USAGE_TIERS} AS t (period, start, is_stale, version, has_quarters)
VALUES ($1, $2, false, 1, $3)
ON CONFLICT (period, start) DO UPDATE
SET is_stale = false, version = t.version + 1, compacted_at = now(),
    has_quarters = excluded.has_quarters
"""
#: The sums by hour of the day $1 were made again.
MADE_AGAIN: Final = f"""
INSERT INTO {TABLE_USAGE_TIERS} AS t (period, start, is_stale, version)
VALUES ('day', $1, true, 1)
ON CONFLICT (period, start) DO UPDATE SET is_stale = true, version = t.version + 1
"""


def make_stale(days: Iterable[date]) -> str:
    """To be run in the transaction that adds rows to `days`, before it does.

    The lock comes first, in a statement of its own: the second one must see what
    whoever had the lock has done. Ordered, so that two can't wait for each other.
    """
    ordered = sorted(set(days))
    months = sorted({one.replace(day=1) for one in ordered})
    return f"""
{lock(ordered, is_shared=True)};
UPDATE {TABLE_USAGE_TIERS} SET is_stale = true FROM (
    SELECT period AS p, start AS s FROM {TABLE_USAGE_TIERS}
    WHERE NOT is_stale AND (period = 'day' AND start IN ({_dates(ordered)})
        OR period = 'month' AND start IN ({_dates(months)}))
    ORDER BY 1, 2 FOR UPDATE
) AS found WHERE period = p AND start = s
"""


def lock(days: Iterable[date], *, is_shared: bool) -> str:
    """Hold the locks of `days` until the transaction ends."""
    name = "pg_advisory_xact_lock" + ("_shared" if is_shared else "")
    numbers = ", ".join(str(one.toordinal()) for one in sorted(days))
    return f"SELECT {name}({_LOCKS}, number) FROM unnest(ARRAY[{numbers}]) AS number"


def _dates(days: Iterable[date]) -> str:
    return ", ".join(f"'{one.isoformat()}'" for one in days)
