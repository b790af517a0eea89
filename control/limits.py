"""What callers may send: limits of roles and of routes, as an operator writes them.

A limit counts requests, or tokens of AI answers, in every window of its length. A
route's limits stand in place of the role's, unless the word `role` is among them:

    rate_limit: role                                    # the default
    rate_limit: none
    rate_limit: {requests: 30, per: minute}             # in place of the role's
    rate_limit: [role, {requests: 5, per: second}]      # both
    rate_limit: [role, {tokens: 100000, per: day}]      # on AI routes
    rate_limit: [role, {requests: 500, per: second, scope: route}]  # all callers
"""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from control.values import Part, Role
from runtime.contracts import ROLE_GUEST

Per = Literal["second", "minute", "hour", "day"]
PER_SECONDS: dict[Per, int] = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}

#: Each is one more counter to read and write for every request.
MAX_RULES = 8
#: Marks a discriminator's tag, which is no part of a field's path.
TAG = "#"
#: The roles' own limits, among a route's.
OF_ROLE: Literal["role"] = "role"


class RateLimit(Part):
    """So many requests or tokens in every window of that length.

    `scope: route` counts all callers of the route together. A limit in `shadow` is
    counted and never denies.
    """

    requests: int | None = Field(default=None, ge=1, le=1_000_000_000)
    tokens: int | None = Field(default=None, ge=1, le=1_000_000_000_000)
    per: Per
    scope: Literal["caller", "route"] = "caller"
    shadow: bool = False

    @model_validator(mode="after")
    def _counts_one_thing(self) -> Self:
        if (self.requests is None) == (self.tokens is None):
            raise ValueError("give either requests or tokens")
        return self

    @model_serializer(mode="wrap")
    def _says_no_defaults(
        self, serialize: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        fields = type(self).model_fields
        return {
            name: value
            for name, value in serialize(self).items()
            if value != fields[name].default
        }

    @property
    def place(self) -> tuple[object, ...]:
        """Two limits of one route or role must not differ in their amount only."""
        return self.tokens is None, self.per, self.scope, self.shadow


def _kind(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"{TAG}list"
    return f"{TAG}own" if isinstance(value, dict | RateLimit) else f"{TAG}word"


def _at_most_one_of_each(
    value: tuple[RateLimit | str, ...],
) -> tuple[RateLimit | str, ...]:
    places = [one if isinstance(one, str) else one.place for one in value]
    if max(Counter(places).values()) > 1:
        raise ValueError("two of these limits differ in nothing but their amount")
    return value


_Own = Annotated[RateLimit, Tag(f"{TAG}own")]
_OwnOrRole = Annotated[
    Annotated[Literal["role"], Tag(f"{TAG}word")] | _Own, Discriminator(_kind)
]

#: `"role"`: the caller's role decides; `"none"`: not limited; or limits of its own.
RouteLimit = Annotated[
    Annotated[Literal["role", "none"], Tag(f"{TAG}word")]
    | _Own
    | Annotated[
        tuple[_OwnOrRole, ...],
        Field(min_length=1, max_length=MAX_RULES),
        Tag(f"{TAG}list"),
    ],
    Discriminator(_kind),
]
RoleLimit = Annotated[
    Annotated[Literal["unlimited"], Tag(f"{TAG}word")]
    | _Own
    | Annotated[
        tuple[RateLimit, ...],
        Field(min_length=1, max_length=MAX_RULES),
        Tag(f"{TAG}list"),
    ],
    Discriminator(_kind),
]


def route_rules(limit: RouteLimit) -> tuple[RateLimit | Literal["role"], ...]:
    """Any of the forms as a list; `none` is the empty one."""
    match limit:
        case "none":
            return ()
        case "role":
            return (OF_ROLE,)
        case RateLimit():
            return (limit,)
        case _:
            return tuple(limit)


def role_rules(limit: RoleLimit) -> tuple[RateLimit, ...]:
    """Any of the forms as a list; `unlimited` is the empty one."""
    match limit:
        case "unlimited":
            return ()
        case RateLimit():
            return (limit,)
        case _:
            return tuple(limit)


class Limits(Part):
    """What callers may send, by role."""

    roles: dict[Role, RoleLimit] = Field(
        default={
            "admin": "unlimited",
            "manager": RateLimit(requests=120, per="minute"),
            "user": RateLimit(requests=60, per="minute"),
            "guest": RateLimit(requests=10, per="minute"),
        }
    )
    max_request_bytes: int = Field(default=10 * 1024 * 1024, ge=1024, le=2**32)

    @field_validator("roles")
    @classmethod
    def _limits_strangers(cls, value: dict[str, RoleLimit]) -> dict[str, RoleLimit]:
        if ROLE_GUEST not in value:
            raise ValueError("give guest a limit: it is for callers without a token")
        for name, limit in value.items():
            rules = role_rules(limit)
            if rules:
                _at_most_one_of_each(rules)
            if any(one.scope == "route" for one in rules):
                raise ValueError(
                    f"{name}: scope: route goes with a route's rate_limit, not a role's"
                )
        return value


def check_route(limit: RouteLimit, *, ai: bool, cost: int) -> None:
    """Raises ValueError: these limits can't be meant."""
    rules = route_rules(limit)
    if rules:
        _at_most_one_of_each(rules)
    own = [one for one in rules if isinstance(one, RateLimit)]
    if not ai and any(one.tokens is not None for one in own):
        raise ValueError("tokens are only known on routes with ai: true")
    for one in own:
        _check_cost(one, cost)


def unpayable(limit: RouteLimit, cost: int, limits: Limits) -> Iterator[str]:
    """Roles under whose limit a request of this cost could never pass."""
    if OF_ROLE not in route_rules(limit):
        return
    for name, of_role in limits.roles.items():
        for one in role_rules(of_role):
            if one.requests is not None and not one.shadow and one.requests < cost:
                yield name


def _check_cost(limit: RateLimit, cost: int) -> None:
    if limit.requests is not None and limit.requests < cost:
        raise ValueError(
            f"a request costs {cost} and {limit.requests} are the limit: "
            "none would ever pass"
        )
