"""A row of the ledger, `r`, as sums have it. SQL text only."""

from typing import Final

from control.usage_totals import ADJUSTED
from runtime.contracts import LATENCY_RANGES_MS, USAGE_SUMS

ROW_MEASURES: Final = {
    **{name: f"coalesce(r.{name}, 0)" for name in USAGE_SUMS},
    "requests": "1",
    "errors": "(r.status >= 400)::int",
    **dict.fromkeys(ADJUSTED, "0"),
    **{
        name: f"(r.duration_ms > {low} AND r.duration_ms <= {high})::int"
        for name, (low, high) in LATENCY_RANGES_MS.items()
    },
}
