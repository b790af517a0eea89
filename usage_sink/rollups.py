"""Sums by hour, kept beside the rows they sum. SQL text only; `store_postgres` runs it.

A row of `usage_hourly` sums the ledger's rows of one hour (UTC), user, service, model,
route and status class; `usage_hourly_totals` is the same over all users. '' stands for
none. Latency is a histogram: `ms_50` counts the calls that took more than the edge
before it and at most 50 ms. `adjusted_*` are the sums of those rows' adjustments.
`usage_minutes` counts the rows by node and minute.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final

from runtime.contracts import (
    LATENCY_BUCKETS,
    LATENCY_RANGES_MS,
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_HOURLY,
    TABLE_USAGE_HOURLY_TOTALS,
    TABLE_USAGE_LOGS,
    TABLE_USAGE_MINUTES,
    USAGE_DIMENSIONS,
    USAGE_SUMS,
)
from usage_sink.days import within

_DIMENSIONS: Final = {
    "hour": "date_bin('1 hour', r.created_at, '2000-01-01+00')",
    **USAGE_DIMENSIONS,
}
_SUMS: Final = {
    **{name: f"coalesce(sum(r.{name}), 0)" for name in USAGE_SUMS},
    "requests": "count(*)",
    "errors": "count(*) FILTER (WHERE r.status >= 400)",
}
_ADJUSTED: Final = ("adjusted_tokens", "adjusted_credits")


@dataclass(frozen=True, slots=True)
class Rollup:
    """A table of sums; `is_filled` chooses its rows that come from the ledger's."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    is_filled: str = "true"

    @property
    def time(self) -> str:
        """The column that says of when a row is."""
        return "minute" if "minute" in self.key else "hour"

    def of(self, day: date) -> str:
        """Which rows are of the UTC day, as an SQL condition."""
        return within(self.time, day)


_VALUES: Final = (*USAGE_SUMS, *LATENCY_BUCKETS, *_ADJUSTED)
_BY_USER: Final = tuple(_DIMENSIONS)
_BY_ALL: Final = tuple(name for name in _DIMENSIONS if name != "user_id")
HOURLY: Final = Rollup(TABLE_USAGE_HOURLY, _BY_USER, (*_BY_USER, *_VALUES))
TOTALS: Final = Rollup(TABLE_USAGE_HOURLY_TOTALS, _BY_ALL, (*_BY_ALL, *_VALUES))
#: A minute may have admissions only; those have no rows to be compared with.
MINUTES: Final = Rollup(
    TABLE_USAGE_MINUTES,
    ("node", "minute"),
    ("node", "minute", "recorded", "unsettled"),
    "recorded + unsettled > 0",
)
ROLLUPS: Final = (HOURLY, TOTALS, MINUTES)


def add(rollup: Rollup, rows: str) -> str:
    """Add the sums of `rows` (a relation like the ledger) to what is there."""
    names = [one for one in rollup.columns if one not in _ADJUSTED]
    added = ", ".join(
        f"{one} = t.{one} + excluded.{one}" for one in names if one not in rollup.key
    )
    return f"""
INSERT INTO {rollup.name} AS t ({", ".join(names)})
{_sums(rollup, rows)}
ON CONFLICT ({", ".join(rollup.key)}) DO UPDATE SET {added}"""


def add_adjusted(rollup: Rollup, adjustments: str) -> str:
    """Add the sums of `adjustments` to those of the rows that they adjust."""
    return f"""
UPDATE {rollup.name} AS t SET
    adjusted_tokens = t.adjusted_tokens + a.tokens,
    adjusted_credits = t.adjusted_credits + a.credits
FROM ({_adjusted(rollup, adjustments, TABLE_USAGE_LOGS)}) AS a
WHERE {" AND ".join(f"t.{one} = a.{one}" for one in rollup.key)}"""


def calculated(rollup: Rollup, rows: str) -> str:
    """What the rollup must hold for `rows`, in the order of its columns."""
    if rollup is MINUTES:
        return _sums(rollup, rows)
    names = [one for one in rollup.columns if one not in _ADJUSTED]
    return f"""
SELECT {", ".join(f"s.{one}" for one in names)},
    coalesce(a.tokens, 0)::bigint, coalesce(a.credits, 0)::bigint
FROM ({_sums(rollup, rows)}) AS s ({", ".join(names)})
LEFT JOIN ({_adjusted(rollup, TABLE_USAGE_ADJUSTMENTS, rows)}) AS a
    USING ({", ".join(rollup.key)})"""


def rows_of(day: date) -> str:
    """The ledger's rows of the UTC day, as a relation."""
    return f"(SELECT * FROM {TABLE_USAGE_LOGS} WHERE {within('created_at', day)})"


def differences(rollup: Rollup, day: date) -> str:
    """How many sums of the UTC day are not what they must be."""
    kept = (
        f"SELECT {', '.join(rollup.columns)} FROM {rollup.name} "
        f"WHERE {rollup.of(day)} AND {rollup.is_filled}"
    )
    return count_of_differences(calculated(rollup, rows_of(day)), kept)


def count_of_differences(calculated: str, kept: str) -> str:
    """How many rows only one of two queries gives."""
    return f"""
WITH calculated AS MATERIALIZED ({calculated}), kept AS ({kept})
SELECT count(*) FROM (
    (TABLE calculated EXCEPT TABLE kept) UNION ALL (TABLE kept EXCEPT TABLE calculated)
) AS difference
"""


def _sums(rollup: Rollup, rows: str) -> str:
    """Ordered by the key, so that sinks that add to the same sums can't deadlock."""
    values: tuple[str, ...]
    if rollup is MINUTES:
        values = (
            *("r.node", "date_bin('1 minute', r.created_at, '2000-01-01+00')"),
            "count(*) FILTER (WHERE r.outcome <> 'unsettled')",
            "count(*) FILTER (WHERE r.outcome = 'unsettled')",
        )
    else:
        dimensions = (_DIMENSIONS[one] for one in rollup.key)
        values = (*dimensions, *_SUMS.values(), *_bucket_counts())
    key = ", ".join(str(at) for at in range(1, len(rollup.key) + 1))
    return f"SELECT {', '.join(values)} FROM {rows} AS r GROUP BY {key} ORDER BY {key}"


def _adjusted(rollup: Rollup, adjustments: str, rows: str) -> str:
    dimensions = ", ".join(f"{_DIMENSIONS[one]} AS {one}" for one in rollup.key)
    key = ", ".join(str(at) for at in range(1, len(rollup.key) + 1))
    return f"""
SELECT {dimensions}, sum(a.tokens) AS tokens, sum(a.credits) AS credits
FROM {adjustments} AS a
JOIN {rows} AS r ON r.id = a.usage_id AND r.created_at = a.usage_created_at
GROUP BY {key} ORDER BY {key}"""


def _bucket_counts() -> list[str]:
    return [
        f"count(*) FILTER (WHERE r.duration_ms > {low} AND r.duration_ms <= {high})"
        for low, high in LATENCY_RANGES_MS.values()
    ]
