"""authz's limiter port, filled with ratelimit's core."""

from authz.limits import Asking, Ruling
from ratelimit.callers import Caller
from ratelimit.limiter import Limiter, Unlimited
from ratelimit.telling import counters, headers


class Limits:
    """One per process; holds no state of its own."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    async def rule(self, asking: Asking) -> Ruling | None:
        caller = Caller(asking.role, asking.user, asking.address)
        verdict = await self._limiter.decide(
            caller, asking.route, tokens=asking.tells_tokens
        )
        if isinstance(verdict, Unlimited):
            return None
        return Ruling(verdict.admitted, headers(verdict), counters(verdict))
