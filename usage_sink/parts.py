"""What is kept of the parts of a closed UTC day. SQL text only, `tiers` names it.

`usage_parts` sums hours (`minutes` 60) and quarters of an hour (15) over all users, by
one *grain*: over everything ('all'), or by service, model, route or status class alone.
A day of any time zone in use is made of such parts: India's begins at 18:30 UTC,
Nepal's at 18:15. `usage_user_parts` sums the same parts by user alone.

Hours are made from the sums by hour. Quarters are made from the rows, so only while
the rows are there; `usage_tiers.has_quarters` says of which days they are kept. Each
text sums the day $1, from the instant $2 until $3.
"""

from collections.abc import Iterable
from typing import Final

from runtime.contracts import (
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_HOURLY,
    TABLE_USAGE_HOURLY_TOTALS,
    TABLE_USAGE_LOGS,
    USAGE_SUMS,
)

ADDED: Final = (*USAGE_SUMS, "adjusted_tokens", "adjusted_credits")
#: Without the minutes, which come first.
PART_COLUMNS: Final = ("minutes", "start", "grain", "value", *ADDED)
USER_COLUMNS: Final = ("minutes", "start", "user_id", *ADDED)

_START: Final = "date_bin('15 minutes', r.created_at, '2000-01-01+00')"
_USER: Final = "coalesce(r.user_id, '') AS user_id"
_DIMENSIONS: Final = (
    "r.service AS service, coalesce(r.model, '') AS model, "
    "coalesce(r.route, '') AS route, (r.status / 100)::smallint AS status_class"
)
_OF_ROWS: Final = ", ".join(
    {
        **{name: f"coalesce(sum(r.{name}), 0) AS {name}" for name in USAGE_SUMS},
        "requests": "count(*) AS requests",
        "errors": "count(*) FILTER (WHERE r.status >= 400) AS errors",
    }.values()
)
_NO_ROWS: Final = ", ".join("0" for _ in USAGE_SUMS)


def sums(columns: Iterable[str]) -> str:
    return ", ".join(f"sum({one})::bigint" for one in columns)


def _by_grain(minutes: int, start: str, relation: str) -> str:
    return f"""
SELECT $1::date, {minutes}::smallint, {start},
    CASE WHEN GROUPING(service) = 0 THEN 'service'
        WHEN GROUPING(model) = 0 THEN 'model' WHEN GROUPING(route) = 0 THEN 'route'
        WHEN GROUPING(status_class) = 0 THEN 'status_class' ELSE 'all' END,
    coalesce(service, model, route, status_class::text, ''), {sums(ADDED)}
FROM {relation}
GROUP BY GROUPING SETS (({start}), ({start}, service), ({start}, model),
    ({start}, route), ({start}, status_class))
ORDER BY 4, 3
"""


def _of_quarters(dimensions: str) -> str:
    """The rows and corrections of the day, with the quarter that they are of."""
    return f"""(
    SELECT {_START} AS start, {dimensions}, {_OF_ROWS},
        0 AS adjusted_tokens, 0 AS adjusted_credits
    FROM {TABLE_USAGE_LOGS} AS r
    WHERE r.created_at >= $2 AND r.created_at < $3
    GROUP BY {", ".join(map(str, range(1, dimensions.count(" AS ") + 2)))}
    UNION ALL
    SELECT {_START}, {dimensions}, {_NO_ROWS}, a.tokens, a.credits
    FROM {TABLE_USAGE_ADJUSTMENTS} AS a
    JOIN {TABLE_USAGE_LOGS} AS r
        ON r.id = a.usage_id AND r.created_at = a.usage_created_at
    WHERE a.usage_created_at >= $2 AND a.usage_created_at < $3
) AS q"""


def _by_user(minutes: int, start: str, relation: str) -> str:
    return f"""
SELECT $1::date, {minutes}::smallint, {start}, user_id, {sums(ADDED)}
FROM {relation} GROUP BY {start}, user_id ORDER BY user_id, {start}
"""


def _of_hours(table: str) -> str:
    return f"(SELECT * FROM {table} WHERE hour >= $2 AND hour < $3) AS h"


HOURS: Final = _by_grain(60, "hour", _of_hours(TABLE_USAGE_HOURLY_TOTALS))
QUARTERS: Final = _by_grain(15, "start", _of_quarters(_DIMENSIONS))
USER_HOURS: Final = _by_user(60, "hour", _of_hours(TABLE_USAGE_HOURLY))
USER_QUARTERS: Final = _by_user(15, "start", _of_quarters(_USER))
