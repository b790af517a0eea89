"""What client and ledger are told of a decision, whoever carries it to Envoy. Pure."""

from ratelimit.limiter import Limited
from runtime.contracts import (
    RATELIMIT_LIMIT,
    RATELIMIT_REMAINING,
    RATELIMIT_RESET,
    RETRY_AFTER,
)


def headers(limited: Limited) -> dict[str, str]:
    """Of every limited answer, admitted or not."""
    found = {
        RATELIMIT_LIMIT: str(limited.limit),
        RATELIMIT_REMAINING: str(limited.remaining),
        RATELIMIT_RESET: str(limited.reset_s),
    }
    if not limited.admitted:
        found[RETRY_AFTER] = str(limited.retry_after_s)
    return found


def counters(limited: Limited) -> str:
    """For the ledger, as METADATA_COUNTERS; a header would show it to the client."""
    return "|".join(
        [
            f"{one.limit};{one.remaining};{one.reset_s};{one.rule}"
            for one in limited.counters
        ]
    )
