"""Applies the rules now in force, with a stated behaviour when Redis is away."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ratelimit.rules import Caller, Rules
from ratelimit.store import Charge, CounterStore, CounterUnavailable, Outcome
from runtime.metrics import Metrics


class OnRedisDown(StrEnum):
    """How requests are limited while the shared counters don't answer."""

    LOCAL = "local"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Unlimited:
    """No limit applies; nothing was counted."""


@dataclass(frozen=True, slots=True)
class Limited:
    """Whether the request may pass, and the limit that decided; times in seconds."""

    admitted: bool
    limit: int
    remaining: int
    reset_s: int
    retry_after_s: int


Verdict = Unlimited | Limited

#: When nobody counts, a client may ask again soon.
_DENIED_WITHOUT_COUNT = Limited(
    admitted=False, limit=0, remaining=0, reset_s=1, retry_after_s=1
)


class Limiter:
    """One per process; `rules` may be replaced at any time."""

    def __init__(
        self,
        *,
        store: CounterStore,
        fallback: CounterStore,
        on_redis_down: OnRedisDown,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._fallback = fallback
        self._on_redis_down = on_redis_down
        self._metrics = metrics
        self._rules = Rules()

    def use(self, document: dict[str, Any]) -> None:
        """Put other rules in force; the hits so far count on.

        Raises:
            ValueError: the document is refused, the present rules stay.
        """
        self._rules = Rules.from_document(document)

    async def decide(self, caller: Caller, route: str, hits: int) -> Verdict:
        charges = self._rules.charges(caller, route, hits)
        if not charges:
            return Unlimited()
        try:
            outcome = await self._store.charge(charges)
        except CounterUnavailable:
            self._metrics.inc(
                "hubgate_ratelimit_store_failures_total", action=self._on_redis_down
            )
            if self._on_redis_down is OnRedisDown.DENY:
                return _DENIED_WITHOUT_COUNT
            outcome = await self._fallback.charge(charges)
        return _verdict(charges, outcome)


def _verdict(charges: list[Charge], outcome: Outcome) -> Limited:
    """The counter that decided: the longest wait, else the least left."""
    pairs = list(zip(charges, outcome.counts, strict=True))
    charge, count = max(
        pairs, key=lambda pair: (pair[1].retry_ms, pair[1].used - pair[0].limit)
    )
    retry_after = _seconds(count.retry_ms)
    return Limited(
        admitted=outcome.admitted,
        limit=charge.limit,
        remaining=max(0, charge.limit - count.used),
        reset_s=_seconds(count.reset_ms) if outcome.admitted else retry_after,
        retry_after_s=retry_after,
    )


def _seconds(milliseconds: int) -> int:
    """Rounded up, so that a client that waits as told is never too early."""
    return math.ceil(milliseconds / 1000)
