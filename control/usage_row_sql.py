"""A row of the ledger, `r`, as sums have it. SQL text only."""

from typing import Final

from control.usage_totals import ADJUSTED, USER
from runtime.contracts import LATENCY_BUCKETS, LATENCY_EDGES_MS, USAGE_SUMS

ROW_DIMENSIONS: Final = {
    USER: "coalesce(r.user_id, '')",
    "service": "r.service",
    "model": "coalesce(r.model, '')",
    "route": "coalesce(r.route, '')",
    "status_class": "(r.status / 100)::smallint",
}
_LARGEST: Final = 2**31 - 1
ROW_MEASURES: Final = {
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
