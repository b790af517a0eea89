"""How many more may this caller send? The port, for where one call answers both.

`authz` knows no limits. Whoever composes the process fills the port, or leaves it
empty where Envoy asks `ratelimit` itself.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from runtime.values import value


@value
class Asking:
    """Who asks for what; without `user` a guest, counted by the trusted address."""

    role: str
    user: str
    address: str
    route: str
    #: The answer will tell what it took of a budget in tokens.
    tells_tokens: bool


@value
class Ruling:
    """What a limit says; `headers` are the client's, `counters` the ledger's."""

    admitted: bool
    headers: Mapping[str, str]
    counters: str


class Limiter(Protocol):
    """Counts a request that is allowed otherwise."""

    async def rule(self, asking: Asking) -> Ruling | None:
        """None: no limit applies. Answers within the time that Envoy waits."""


@dataclass
class MemoryLimiter:
    """For tests: so many of each user or address, ever."""

    limit: int
    asked: list[Asking] = field(default_factory=list)
    _hits: Counter[str] = field(default_factory=Counter)

    async def rule(self, asking: Asking) -> Ruling | None:
        self.asked.append(asking)
        who = asking.user or asking.address
        self._hits[who] += 1
        left = self.limit - self._hits[who]
        headers = {"RateLimit-Remaining": str(max(0, left))}
        return Ruling(left >= 0, headers, f"{self.limit};{max(0, left)};60;test")
