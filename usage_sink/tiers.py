"""Sums of closed UTC days and months, made from the sums by hour. SQL text only.

By user there is one row for each user and *grain*: over everything, and by service,
model, route or status class alone. All of these together at once would be almost as
many rows as there are by hour. `…_totals` sum over all users, with the latency, by all
four at once.

`usage_tiers` says which periods have been summed. Whoever adds rows takes a shared
lock of their days and marks what is summed of them as stale, in the same transaction;
whoever sums takes the exclusive lock. So a period that is not stale holds exactly what
the hours hold, in every snapshot.
"""

from collections.abc import Iterable
from datetime import date
from enum import StrEnum
from typing import Final

from runtime.contracts import (
    LATENCY_BUCKETS,
    TABLE_USAGE_DAILY,
    TABLE_USAGE_DAILY_TOTALS,
    TABLE_USAGE_HOURLY,
    TABLE_USAGE_HOURLY_TOTALS,
    TABLE_USAGE_MONTHLY,
    TABLE_USAGE_MONTHLY_TOTALS,
    TABLE_USAGE_TIERS,
    USAGE_SUMS,
)

#: "hubt" in ASCII; the second key of each lock is the day.
_LOCKS: Final = 0x68756274

_ADDED: Final = (*USAGE_SUMS, "adjusted_tokens", "adjusted_credits")
_COUNTED: Final = (*USAGE_SUMS, *LATENCY_BUCKETS, "adjusted_tokens", "adjusted_credits")
_BY_ALL: Final = ("service", "model", "route", "status_class")


class Period(StrEnum):
    """What a tier sums up."""

    DAY = "day"
    MONTH = "month"

    @property
    def tables(self) -> tuple[str, str]:
        """Of the sums by user, and of those over all users."""
        if self is Period.DAY:
            return TABLE_USAGE_DAILY, TABLE_USAGE_DAILY_TOTALS
        return TABLE_USAGE_MONTHLY, TABLE_USAGE_MONTHLY_TOTALS


def _sum(columns: Iterable[str]) -> str:
    return ", ".join(f"sum({one})::bigint" for one in columns)


#: The sums of the hours from $2 until $3, for the day $1.
_DAY_BY_USER: Final = f"""
INSERT INTO {TABLE_USAGE_DAILY} (day, grain, value, user_id, {", ".join(_ADDED)})
SELECT $1, CASE WHEN GROUPING(service) = 0 THEN 'service'
        WHEN GROUPING(model) = 0 THEN 'model' WHEN GROUPING(route) = 0 THEN 'route'
        WHEN GROUPING(status_class) = 0 THEN 'status_class' ELSE 'user' END,
    coalesce(service, model, route, status_class::text, ''), user_id, {_sum(_ADDED)}
FROM {TABLE_USAGE_HOURLY} WHERE hour >= $2 AND hour < $3
GROUP BY GROUPING SETS ((user_id), (user_id, service), (user_id, model),
    (user_id, route), (user_id, status_class))
ORDER BY 2, 4
"""
_DAY_BY_ALL: Final = f"""
INSERT INTO {TABLE_USAGE_DAILY_TOTALS} (day, {", ".join((*_BY_ALL, *_COUNTED))})
SELECT $1, {", ".join(_BY_ALL)}, {_sum(_COUNTED)}
FROM {TABLE_USAGE_HOURLY_TOTALS} WHERE hour >= $2 AND hour < $3
GROUP BY {", ".join(_BY_ALL)}
"""
#: The sums of the days from $2 until $3, for the month $1.
_MONTH_BY_USER: Final = f"""
INSERT INTO {TABLE_USAGE_MONTHLY} (month, grain, value, user_id, {", ".join(_ADDED)})
SELECT $1, grain, value, user_id, {_sum(_ADDED)}
FROM {TABLE_USAGE_DAILY} WHERE day >= $2 AND day < $3
GROUP BY grain, value, user_id ORDER BY grain, user_id
"""
_MONTH_BY_ALL: Final = f"""
INSERT INTO {TABLE_USAGE_MONTHLY_TOTALS} (month, {", ".join((*_BY_ALL, *_COUNTED))})
SELECT $1, {", ".join(_BY_ALL)}, {_sum(_COUNTED)}
FROM {TABLE_USAGE_DAILY_TOTALS} WHERE day >= $2 AND day < $3
GROUP BY {", ".join(_BY_ALL)}
"""

SUMS: Final = {
    Period.DAY: (_DAY_BY_USER, _DAY_BY_ALL),
    Period.MONTH: (_MONTH_BY_USER, _MONTH_BY_ALL),
}

#: The period $1 that begins at $2 has its sums.
CURRENT: Final = f"""
INSERT INTO {TABLE_USAGE_TIERS} AS t (period, start, is_stale, version)
VALUES ($1, $2, false, 1)
ON CONFLICT (period, start) DO UPDATE
SET is_stale = false, version = t.version + 1, compacted_at = now()
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
