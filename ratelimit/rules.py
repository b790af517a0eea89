"""Limits by role and by route: a document -> immutable rules -> what to charge.

A role has rules, which count a caller over all routes; a route has rules, which count
a caller on this route, or (`scope: route`) all callers of the route together. The word
`role` among a route's rules stands for the rules of the caller's role. A request must
find room under all of its rules and is then counted under all, or under none.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Literal, TypeGuard
from urllib.parse import quote

from ratelimit.callers import Caller, subject
from ratelimit.store import Charge, Mode
from runtime.contracts import ROLE_GUEST
from runtime.contracts.redis_keys import (
    RATE_LIMIT_OF_ROLE,
    rate_limit_key,
    rate_limit_of_route,
    rate_limit_scope,
)

_PER_MINUTE = 60
_THE_ROLES: Final = "role"


class Unit(StrEnum):
    """What is counted: requests before they pass, tokens when the answer has ended."""

    REQUESTS = "requests"
    TOKENS = "tokens"


class Scope(StrEnum):
    """Whose hits are counted together."""

    CALLER = "caller"
    ROUTE = "route"


@dataclass(frozen=True, slots=True)
class Rule:
    """`amount` in any `per_s` seconds; `shadow` only says what it would do."""

    amount: int
    per_s: int
    unit: Unit = Unit.REQUESTS
    scope: Scope = Scope.CALLER
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class RouteRules:
    """A route's rules in place of the role's, which it may name; [] = not limited."""

    rules: tuple[Rule | Literal["role"], ...] = (_THE_ROLES,)
    cost: int = 1


_DEFAULT_ROLES: Mapping[str, tuple[Rule, ...] | None] = MappingProxyType(
    {
        "admin": None,
        "manager": (Rule(120, _PER_MINUTE),),
        "user": (Rule(60, _PER_MINUTE),),
        ROLE_GUEST: (Rule(10, _PER_MINUTE),),
    }
)
_ROLE_ONLY = RouteRules()


@dataclass(frozen=True, slots=True)
class _Counted:
    """A rule, and where its hits are counted; `who` is None: the caller's own."""

    rule: Rule
    who: str | None
    scope: str
    name: str
    amount: int
    window_ms: int

    @property
    def is_budget(self) -> bool:
        return self.rule.unit is Unit.TOKENS

    def charge(self, caller: str, hits: int, mode: Mode) -> Charge:
        key = rate_limit_key(self.who or caller, self.scope)
        return Charge(key, self.amount, self.window_ms, hits, mode, self.name)


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a role is under on a route, and what is kept beside that."""

    counted: tuple[_Counted, ...]
    kept: tuple[_Counted, ...]
    #: How each is charged before a request; False: only looked at.
    asked: tuple[tuple[_Counted, Mode, bool], ...]
    #: The same, where an answer's tokens will be known.
    asked_tokens: tuple[tuple[_Counted, Mode, bool], ...]
    cost: int


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits by role (None = unlimited) and by route; these are the defaults."""

    roles: Mapping[str, tuple[Rule, ...] | None] = field(
        default_factory=lambda: _DEFAULT_ROLES
    )
    routes: Mapping[str, RouteRules] = field(default_factory=dict)
    _windows: frozenset[tuple[Unit, int]] = field(init=False, repr=False, compare=False)
    #: What was worked out, by role and route: no more than the document has.
    _known: dict[tuple[str, str], _Terms] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "_windows", frozenset(_windows(self.roles)))

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Rules":
        """Rules as `control` publishes them.

        Raises:
            ValueError: naming the first member that is not as agreed.
        """
        roles = {
            name: None if one is None else tuple(_rules(f"roles.{name}", one))
            for name, one in _object("roles", document.get("roles")).items()
        }
        if ROLE_GUEST not in roles:
            raise ValueError("roles.guest is missing: it limits callers without a role")
        routes = {
            name: _route(f"routes.{name}", one)
            for name, one in _object("routes", document.get("routes")).items()
        }
        return cls(MappingProxyType(roles), MappingProxyType(routes))

    def charges(
        self, caller: Caller, route: str, hits: int = 1, *, tokens: bool = False
    ) -> list[Charge]:
        """What this request costs on which counters; empty = unlimited.

        A token budget is only looked at, where an answer's tokens will be known
        (`tokens`). The counter belongs to the caller, not to the role: a new role or
        token keeps the count.
        """
        terms, who = self._terms(caller.role, route), subject(caller)
        cost = hits * terms.cost
        return [
            one.charge(who, cost if counts else 1, mode)
            for one, mode, counts in (terms.asked_tokens if tokens else terms.asked)
        ]

    def settlements(self, caller: Caller, route: str, tokens: int) -> list[Charge]:
        """What an answer that took `tokens` costs: it is counted whatever is left."""
        terms, who = self._terms(caller.role, route), subject(caller)
        charges = [
            one.charge(who, tokens, Mode.SETTLE)
            for one in (*terms.counted, *terms.kept)
            if one.is_budget
        ]
        return list({one.key: one for one in charges}.values())

    def _terms(self, role: str, route: str) -> _Terms:
        # Names that are not in the document mean the same, however many there are.
        known = role if role in self.roles else ROLE_GUEST
        place = route if route in self.routes else ""
        terms = self._known.get((known, place))
        if terms is None:
            cost = self.routes.get(place, _ROLE_ONLY).cost
            counted = tuple(self._counted(known, place))
            terms = _terms(counted, tuple(self._kept(known, place)), cost)
            self._known[known, place] = terms
        return terms

    def _counted(self, role: str, route: str) -> Iterator[_Counted]:
        of_role = self.roles[role]
        if of_role is None:
            return
        for rule in self.routes.get(route, _ROLE_ONLY).rules:
            if rule == _THE_ROLES:
                for one in of_role:
                    yield _at(one, None, RATE_LIMIT_OF_ROLE, f"role {role}")
            else:
                yield _at(rule, *_place(rule, route), f"route {route}")

    def _kept(self, role: str, route: str) -> Iterator[_Counted]:
        """The counters that the caller would have in another role.

        They are kept as well, so that a caller who changes to a role whose limits are
        of another length does not begin anew.
        """
        of_role = self.roles[role]
        rules = self.routes.get(route, _ROLE_ONLY).rules
        if of_role is None or _THE_ROLES not in rules:
            return
        own = {(one.unit, one.per_s) for one in of_role if not one.shadow}
        for unit, per_s in self._windows - own:
            yield _at(Rule(1, per_s, unit), None, RATE_LIMIT_OF_ROLE, "")


def _terms(
    counted: tuple[_Counted, ...], kept: tuple[_Counted, ...], cost: int
) -> _Terms:
    with_tokens = [
        *((one, *_mode(one.rule)) for one in counted),
        *((one, Mode.SETTLE, True) for one in kept if not one.is_budget),
    ]
    asked = (step for step in with_tokens if not step[0].is_budget)
    return _Terms(counted, kept, tuple(asked), tuple(with_tokens), cost)


def _mode(rule: Rule) -> tuple[Mode, bool]:
    """How a request is charged for a rule, and whether with its cost."""
    if rule.unit is Unit.REQUESTS:
        return Mode.SHADOW if rule.shadow else Mode.ENFORCE, True
    # A budget is spent when not one token is left.
    return Mode.SHADOW_LOOK if rule.shadow else Mode.LOOK, False


def _windows(
    roles: Mapping[str, tuple[Rule, ...] | None],
) -> Iterator[tuple[Unit, int]]:
    for rules in roles.values():
        for one in rules or ():
            if not one.shadow:
                yield one.unit, one.per_s


def _place(rule: Rule, route: str) -> tuple[str | None, str]:
    if rule.scope is Scope.ROUTE:
        return f"r:{quote(route, safe='')}", "all"
    return None, rate_limit_of_route(route)


def _at(rule: Rule, who: str | None, place: str, name: str) -> _Counted:
    is_tokens = rule.unit is Unit.TOKENS
    scope = rate_limit_scope(place, rule.per_s, tokens=is_tokens, shadow=rule.shadow)
    amount = f"{rule.amount} {rule.unit} per {rule.per_s} s"
    window_ms = rule.per_s * 1000
    return _Counted(rule, who, scope, f"{name}: {amount}", rule.amount, window_ms)


def _object(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be an object")  # noqa: TRY004 - one error for bad documents
    return value


def _route(name: str, value: object) -> RouteRules:
    """One rule, or `{"cost": …, "rules": […]}`."""
    members = _object(name, value)
    if "rules" not in members:
        return RouteRules(tuple(_rules(name, members)))
    cost = members.get("cost", 1)
    if not _is_positive(cost):
        raise ValueError(f"{name}.cost must be a whole number above 0")
    given = members["rules"]
    if not isinstance(given, list):
        raise ValueError(f"{name}.rules must be a list")  # noqa: TRY004 - one error for bad documents
    found: list[Rule | Literal["role"]] = []
    for place, one in enumerate(given):
        if one == _THE_ROLES:
            found.append(_THE_ROLES)
        else:
            found.append(_rule(f"{name}.rules[{place}]", one))
    return RouteRules(tuple(found), cost)


def _rules(name: str, value: object) -> Iterable[Rule]:
    given = value if isinstance(value, list) else [value]
    return [_rule(name, one) for one in given]


def _rule(name: str, value: object) -> Rule:
    if isinstance(value, Mapping):
        unit = Unit.TOKENS if "tokens" in value else Unit.REQUESTS
        amount, per_s = value.get(unit), value.get("per_s")
        scope, shadow = value.get("scope", Scope.CALLER), value.get("shadow", False)
        if (
            _is_positive(amount)
            and _is_positive(per_s)
            and scope in tuple(Scope)
            and isinstance(shadow, bool)
        ):
            return Rule(amount, per_s, unit, Scope(scope), shadow)
    raise ValueError(
        f"{name} must have whole numbers requests or tokens, and per_s, above 0"
    )


def _is_positive(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
