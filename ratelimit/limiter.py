"""Applies the rules now in force, with a stated behaviour when Redis is away."""

from enum import StrEnum
from typing import Any, Final

from ratelimit.callers import Caller
from ratelimit.rules import Rules
from ratelimit.store import Charge, CounterStore, CounterUnavailable, Mode, Outcome
from ratelimit.window import Count
from runtime.contracts import ROLE_ADMIN, ROLE_GUEST, ROLE_MANAGER
from runtime.metrics import Metrics
from runtime.values import value


class OnRedisDown(StrEnum):
    """How requests are limited while the shared counters don't answer."""

    LOCAL = "local"
    DENY = "deny"


@value
class Unlimited:
    """No limit applies; nothing was counted."""


@value
class Counter:
    """One limit that the request was under, as it stood then; times in seconds."""

    rule: str
    limit: int
    remaining: int
    reset_s: int


@value
class Limited:
    """Whether the request may pass, and the limit that decided; times in seconds."""

    admitted: bool
    limit: int
    remaining: int
    reset_s: int
    retry_after_s: int
    counters: tuple[Counter, ...] = ()


Verdict = Unlimited | Limited
_Pair = tuple[Charge, Count]
_COUNTED_ROLES = frozenset({ROLE_ADMIN, ROLE_MANAGER, "user", ROLE_GUEST})
_SHADOWS = (Mode.SHADOW, Mode.SHADOW_LOOK)

_UNLIMITED: Final = Unlimited()
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
        self._count = metrics.counter(
            "hubgate_ratelimit_decisions_total", "verdict", "role"
        )
        self._rules = Rules()

    def use(self, document: dict[str, Any]) -> None:
        """Put other rules in force; the hits so far count on.

        Raises:
            ValueError: the document is refused, the present rules stay.
        """
        self.put(Rules.from_document(document))

    def put(self, rules: Rules) -> None:
        """Put these in force."""
        self._rules = rules

    async def decide(
        self, caller: Caller, route: str, hits: int = 1, *, tokens: bool = False
    ) -> Verdict:
        """Whether a request may pass; `tokens`: its answer's tokens will be known."""
        charges = self._rules.charges(caller, route, hits, tokens=tokens)
        verdict: Verdict = _UNLIMITED
        if charges:
            outcome = await self._charge(charges)
            verdict = self._verdict(charges, outcome)
        # Role names come from tokens: an unbounded label would fill the memory.
        role = caller.role if caller.role in _COUNTED_ROLES else "other"
        self._count(_word(verdict), role)
        return verdict

    def _verdict(self, charges: list[Charge], outcome: Outcome | None) -> Verdict:
        if outcome is None:
            return _DENIED_WITHOUT_COUNT
        pairs = list(zip(charges, outcome.counts, strict=True))
        deciding = [one for one in pairs if one[0].mode.denies]
        if len(deciding) < len(pairs):
            self._note_shadows(pairs)
        return _verdict(outcome.admitted, deciding)

    async def settle(self, caller: Caller, route: str, tokens: int) -> None:
        """Charge the budgets for an answer that has ended."""
        charges = self._rules.settlements(caller, route, tokens)
        if charges:
            await self._charge(charges)
            self._metrics.inc("hubgate_ratelimit_tokens_total", tokens)

    async def _charge(self, charges: list[Charge]) -> Outcome | None:
        """None: nobody counts, and requests are to be denied then."""
        try:
            return await self._store.charge(charges)
        except CounterUnavailable:
            self._metrics.inc(
                "hubgate_ratelimit_store_failures_total", action=self._on_redis_down
            )
        if self._on_redis_down is OnRedisDown.DENY:
            return None
        return await self._fallback.charge(charges)

    def _note_shadows(self, pairs: list[_Pair]) -> None:
        for charge, count in pairs:
            if charge.mode in _SHADOWS:
                self._metrics.inc(
                    "hubgate_ratelimit_shadow_total",
                    rule=charge.rule,
                    verdict="deny" if count.retry_ms else "allow",
                )


def _word(verdict: Verdict) -> str:
    if isinstance(verdict, Unlimited):
        return "unlimited"
    return "allow" if verdict.admitted else "deny"


def _verdict(admitted: bool, pairs: list[_Pair]) -> Verdict:  # noqa: FBT001 - a fact, no option
    """The counter that decided: the longest wait, else the least left.

    An admitted request is told of its limit in requests, of a token budget only when
    there is nothing else.
    """
    if not pairs:
        return _UNLIMITED
    counters = [_counter(*pair) for pair in pairs]
    if len(pairs) == 1:
        (_, count), told = pairs[0], counters[0]
    else:
        (_, count), told = max(zip(pairs, counters, strict=True), key=_weight)
    retry_after = _seconds(count.retry_ms)
    reset = told.reset_s if admitted else retry_after
    return Limited(
        admitted, told.limit, told.remaining, reset, retry_after, tuple(counters)
    )


def _weight(told: tuple[_Pair, Counter]) -> tuple[int, bool, int]:
    (charge, count), _ = told
    return count.retry_ms, charge.mode is Mode.ENFORCE, count.used - charge.limit


def _counter(charge: Charge, count: Count) -> Counter:
    left = charge.limit - count.used
    return Counter(charge.rule, charge.limit, max(0, left), _seconds(count.reset_ms))


def _seconds(milliseconds: int) -> int:
    """Rounded up, so that a client that waits as told is never too early."""
    return -(-milliseconds // 1000)
