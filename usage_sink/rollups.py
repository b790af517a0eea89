"""Sums by hour, kept beside the rows they sum. SQL text only; `store_postgres` runs it.

A row of `usage_hourly` sums the ledger's rows of one hour (UTC), user, service, model
and status class; '' stands for no user and no model. Latency is a histogram: `ms_50`
counts the calls that took more than the edge before it and at most 50 ms.
`adjusted_*` are the sums of the adjustments of those rows.
"""

from dataclasses import dataclass
from typing import Final

from runtime.contracts import (
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_HOURLY,
    TABLE_USAGE_LOGS,
    TABLE_USAGE_MINUTES,
)

#: Upper edges of the latency buckets, in milliseconds; one more bucket is open.
LATENCY_EDGES_MS: Final = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(1000, 2000, 5000, 10_000, 30_000, 60_000),
)
KEY: Final = ("hour", "user_id", "service", "model", "status_class")
SUMS: Final = (
    *("requests", "errors", "tokens", "input_tokens", "output_tokens"),
    *("cached_tokens", "reasoning_tokens", "credits", "duration_ms"),
)
BUCKETS: Final = tuple(f"ms_{edge}" for edge in (*LATENCY_EDGES_MS, "more"))

HOUR: Final = "date_bin('1 hour', created_at, '2000-01-01+00')"
_MINUTE: Final = "date_bin('1 minute', created_at, '2000-01-01+00')"


def _bucket_counts() -> str:
    edges = zip((-1, *LATENCY_EDGES_MS), (*LATENCY_EDGES_MS, 2**31 - 1), strict=True)
    return ", ".join(
        f"count(*) FILTER (WHERE duration_ms > {low} AND duration_ms <= {high})"
        for low, high in edges
    )


def hourly_select(rows: str) -> str:
    """Sums of `rows` (a relation with the ledger's columns), by KEY in that order.

    Ordered, so that sinks that add to the same sums can't deadlock.
    """
    return f"""
SELECT {HOUR}, coalesce(user_id, ''), service, coalesce(model, ''), status / 100,
    count(*), count(*) FILTER (WHERE status >= 400), sum(tokens),
    coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),
    coalesce(sum(cached_tokens), 0), coalesce(sum(reasoning_tokens), 0),
    sum(credits), sum(duration_ms), {_bucket_counts()}
FROM {rows} AS r GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5"""


def add_hourly(rows: str) -> str:
    """Add the sums of `rows` to what is there."""
    added = ", ".join(f"{name} = t.{name} + excluded.{name}" for name in SUMS + BUCKETS)
    return f"""
INSERT INTO {TABLE_USAGE_HOURLY} AS t ({", ".join(KEY + SUMS + BUCKETS)})
{hourly_select(rows)}
ON CONFLICT ({", ".join(KEY)}) DO UPDATE SET {added}"""


def minutes_select(rows: str) -> str:
    """How many of `rows` are of each node and minute: (recorded, unsettled)."""
    return f"""
SELECT node, {_MINUTE} AS minute,
    count(*) FILTER (WHERE outcome <> 'unsettled') AS recorded,
    count(*) FILTER (WHERE outcome = 'unsettled') AS unsettled
FROM {rows} AS r GROUP BY 1, 2 ORDER BY 1, 2"""


def add_minutes(rows: str) -> str:
    """Count `rows` by node and minute, for the ledger's completeness."""
    return f"""
INSERT INTO {TABLE_USAGE_MINUTES} AS t (node, minute, recorded, unsettled)
{minutes_select(rows)}
ON CONFLICT (node, minute) DO UPDATE SET
    recorded = t.recorded + excluded.recorded,
    unsettled = t.unsettled + excluded.unsettled"""


def add_adjusted(adjustments: str) -> str:
    """Add the sums of `adjustments` to the hours of the rows that they adjust."""
    return f"""
UPDATE {TABLE_USAGE_HOURLY} AS t SET
    adjusted_tokens = t.adjusted_tokens + a.tokens,
    adjusted_credits = t.adjusted_credits + a.credits
FROM ({adjusted_select(adjustments)}) AS a
WHERE {" AND ".join(f"t.{name} = a.{name}" for name in KEY)}"""


def adjusted_select(adjustments: str, rows: str = TABLE_USAGE_LOGS) -> str:
    """Sums of `adjustments` by the KEY of the rows that they adjust."""
    return f"""
SELECT {HOUR.replace("created_at", "l.created_at")} AS hour,
    coalesce(l.user_id, '') AS user_id, l.service, coalesce(l.model, '') AS model,
    (l.status / 100)::smallint AS status_class,
    sum(a.tokens) AS tokens, sum(a.credits) AS credits
FROM {adjustments} AS a
JOIN {rows} AS l ON l.id = a.usage_id AND l.created_at = a.usage_created_at
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5"""


@dataclass(frozen=True, slots=True)
class Sums:
    """A table of sums, as it is compared with the rows."""

    name: str
    time: str
    columns: str
    is_filled: str


HOURLY: Final = Sums(
    TABLE_USAGE_HOURLY,
    "hour",
    ", ".join((*KEY, *SUMS, *BUCKETS, "adjusted_tokens", "adjusted_credits")),
    "true",
)
#: A minute may have admissions only; those have no rows to be compared with.
MINUTES: Final = Sums(
    TABLE_USAGE_MINUTES,
    "minute",
    "node, minute, recorded, unsettled",
    "recorded + unsettled > 0",
)


def hourly_of(rows: str) -> str:
    """What `usage_hourly` must hold for `rows`, adjustments included."""
    keys = ", ".join(KEY)
    sums = ", ".join(f"h.{name}" for name in (*KEY, *SUMS, *BUCKETS))
    return f"""
SELECT {sums}, coalesce(a.tokens, 0)::bigint, coalesce(a.credits, 0)::bigint
FROM ({hourly_select(rows)}) AS h ({", ".join((*KEY, *SUMS, *BUCKETS))})
LEFT JOIN ({adjusted_select(TABLE_USAGE_ADJUSTMENTS, rows)}) AS a USING ({keys})"""


def minutes_of(rows: str) -> str:
    """What `usage_minutes` must hold for `rows`."""
    return minutes_select(rows)
