"""Sums by hour, kept beside the rows they sum. SQL text only; `store_postgres` runs it.

A row of `usage_hourly` sums the ledger's rows of one hour (UTC), user, service, model
and status class; '' stands for no user and no model. Latency is a histogram: `ms_50`
counts the calls that took more than the edge before it and at most 50 ms.
`adjusted_*` are the sums of the adjustments of those rows.
"""

from typing import Final

from runtime.contracts import TABLE_USAGE_HOURLY, TABLE_USAGE_MINUTES

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
FROM {rows} GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5"""  # noqa: S608 - names of ours


def add_hourly(rows: str) -> str:
    """Add the sums of `rows` to what is there."""
    added = ", ".join(f"{name} = t.{name} + excluded.{name}" for name in SUMS + BUCKETS)
    return f"""
INSERT INTO {TABLE_USAGE_HOURLY} AS t ({", ".join(KEY + SUMS + BUCKETS)})
{hourly_select(rows)}
ON CONFLICT ({", ".join(KEY)}) DO UPDATE SET {added}"""


def add_minutes(rows: str) -> str:
    """Count `rows` by node and minute, for the ledger's completeness."""
    return f"""
INSERT INTO {TABLE_USAGE_MINUTES} AS t (node, minute, recorded, unsettled)
SELECT node, {_MINUTE}, count(*) FILTER (WHERE outcome <> 'unsettled'),
    count(*) FILTER (WHERE outcome = 'unsettled')
FROM {rows} GROUP BY 1, 2 ORDER BY 1, 2
ON CONFLICT (node, minute) DO UPDATE SET
    recorded = t.recorded + excluded.recorded,
    unsettled = t.unsettled + excluded.unsettled"""  # noqa: S608 - names of ours


def add_adjusted(adjustments: str) -> str:
    """Add the sums of `adjustments` to the hours of the rows that they adjust."""
    return f"""
UPDATE {TABLE_USAGE_HOURLY} AS t SET
    adjusted_tokens = t.adjusted_tokens + a.tokens,
    adjusted_credits = t.adjusted_credits + a.credits
FROM ({adjusted_select(adjustments)}) AS a
WHERE {" AND ".join(f"t.{name} = a.{name}" for name in KEY)}"""  # noqa: S608 - names of ours


def adjusted_select(adjustments: str) -> str:
    """Sums of `adjustments` by the KEY of the rows that they adjust."""
    return f"""
SELECT {HOUR.replace("created_at", "l.created_at")} AS hour,
    coalesce(l.user_id, '') AS user_id, l.service, coalesce(l.model, '') AS model,
    (l.status / 100)::smallint AS status_class,
    sum(a.tokens) AS tokens, sum(a.credits) AS credits
FROM {adjustments} AS a
JOIN usage_logs AS l ON l.id = a.usage_id AND l.created_at = a.usage_created_at
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5"""  # noqa: S608 - names of ours
