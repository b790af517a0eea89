"""A caller's own limits, and what they have counted so far. Pure, with a twin.

The limits are those that `ratelimit` applies (its `rules.py` says how); which counter
each has is agreed in `runtime.contracts`. A limit that all callers of a route share
is nobody's own, one in shadow limits nobody: neither is listed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from control.limits import PER_SECONDS, RateLimit, role_rules, route_rules
from control.model import GatewayConfig
from runtime.contracts import ROLE_GUEST
from runtime.contracts.redis_keys import (
    RATE_LIMIT_OF_ROLE,
    rate_limit_key,
    rate_limit_of_route,
    rate_limit_scope,
    rate_limit_user,
)

#: Of a document with very many limited routes, the first ones are read.
MAX_LIMITS: Final = 200


class CountersUnavailable(Exception):
    """Redis can't answer now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """`route` None: it counts over all routes, by the caller's role."""

    route: str | None
    rule: RateLimit
    key: str

    @property
    def amount(self) -> int:
        return self.rule.requests or self.rule.tokens or 0

    @property
    def unit(self) -> str:
        return "tokens" if self.rule.requests is None else "requests"

    @property
    def window_ms(self) -> int:
        return PER_SECONDS[self.rule.per] * 1000


@dataclass(frozen=True, slots=True)
class Counted:
    """Hits in the window, and when the oldest of them leaves it; 0: there is none."""

    used: int
    reset_ms: int


class Counters(Protocol):
    """Reads counters; changes none."""

    async def read(self, limits: Sequence[Limit]) -> Sequence[Counted]:
        """In the order of `limits`; raises CountersUnavailable."""


class MemoryCounters:
    """For tests and tools: by key."""

    def __init__(self) -> None:
        self.counted: dict[str, Counted] = {}
        self.is_available = True

    async def read(self, limits: Sequence[Limit]) -> Sequence[Counted]:
        if not self.is_available:
            raise CountersUnavailable
        return [self.counted.get(one.key, Counted(0, 0)) for one in limits]


def limits_of(config: GatewayConfig, role: str, user: str) -> list[Limit] | None:
    """The user's own limits in this role; None: unlimited, on every route."""
    roles: Mapping[str, object] = config.limits.roles
    known = role if role in roles else ROLE_GUEST
    of_role = role_rules(config.limits.roles[known])
    if not of_role:
        return None
    subject = rate_limit_user(user)
    limits = [*_limits(None, of_role, subject)]
    for route in config.routes:
        if route.roles is None or role in route.roles:
            rules = route_rules(route.rate_limit)
            own = [one for one in rules if isinstance(one, RateLimit)]
            limits += _limits(route.id, own, subject)
    return limits[:MAX_LIMITS]


def _limits(
    route: str | None, rules: Sequence[RateLimit], subject: str
) -> Iterator[Limit]:
    place = RATE_LIMIT_OF_ROLE if route is None else rate_limit_of_route(route)
    for rule in rules:
        if rule.shadow or rule.scope == "route":
            continue
        is_tokens = rule.tokens is not None
        scope = rate_limit_scope(place, PER_SECONDS[rule.per], tokens=is_tokens)
        yield Limit(route=route, rule=rule, key=rate_limit_key(subject, scope))
