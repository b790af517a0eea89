"""The configuration document: what an operator may say, and nothing else.

Route order. Envoy takes the first route that matches, so the order is ours to state:
first exact paths, then regular expressions in the order of the document, then
prefixes, the longest first. A route for `/api/mcp/openai` is thus never hidden by
one for `/api/mcp`, wherever it was added. Prefixes end at a `/` of the request path:
`/api/users` matches `/api/users` and `/api/users/7`, not `/api/usersettings`.
"""

from collections import Counter
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from control.cors import Cors
from control.edge import Edge
from control.limits import Limits, RouteLimit, check_route, unpayable
from control.services import Service
from control.usage_rules import UsageRules
from control.values import (
    HEALTH_PATH,
    SERVICE_CONTROL,
    Duration,
    Method,
    Name,
    Part,
    Path,
    Role,
    RoutePath,
    ServiceName,
    Text,
)
from runtime.contracts import AuthPolicy

#: A route that does not fit the rest: its place and why.
Misfit = tuple[int, str]

#: RE2 programs grow with their text; Envoy itself refuses the worst.
MAX_REGEX_CHARACTERS = 1000
#: Each star multiplies the time that a pattern can take on a hostile name.
MAX_STARS = 4
#: Type of the error that carries (index of a route, message) pairs.
DOCUMENT_ERROR = "document"


class Route(Part):
    """Which requests go to which service, and on what terms."""

    id: Name
    prefix: RoutePath | None = None
    path: RoutePath | None = None
    regex: Text | None = Field(
        default=None, min_length=1, max_length=MAX_REGEX_CHARACTERS
    )
    prefix_rewrite: Path | None = None
    methods: tuple[Method, ...] | None = Field(default=None, min_length=1)
    service: Name
    auth: AuthPolicy = AuthPolicy.REQUIRED
    roles: tuple[Role, ...] | None = Field(default=None, min_length=1)
    rate_limit: RouteLimit = "role"
    #: What one request counts for, under every limit in requests.
    cost: int = Field(default=1, ge=1, le=1_000_000)
    ai: bool = False
    #: Ask OpenAI to count the tokens of streams, too; each request is held until whole.
    include_usage: bool = False
    websocket: bool = False
    timeout: Duration = "15s"
    #: Silence that ends a stream.
    idle_timeout: Duration = "5m"
    retry: Literal["idempotent", "connect", "none"] = "idempotent"
    cors: Cors | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        given = [name for name in _MATCHES if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "match",
                "give exactly one of prefix, path and regex (given: {given})",
                {"given": ", ".join(given) or "none"},
            )
        if self.prefix_rewrite is not None and self.regex is not None:
            raise PydanticCustomError(
                "rewrite", "prefix_rewrite goes with prefix or path, not with regex"
            )
        if self.roles is not None and self.auth is not AuthPolicy.REQUIRED:
            raise PydanticCustomError(
                "roles", "roles are only asked where auth is required"
            )
        if self.include_usage and not self.ai:
            raise PydanticCustomError(
                "include_usage", "include_usage goes with ai: true"
            )
        check_route(self.rate_limit, ai=self.ai, cost=self.cost)
        return self

    @property
    def match(self) -> tuple[str, str]:
        """(kind, text): what two routes must not both have, methods aside."""
        for kind in _MATCHES:
            text = getattr(self, kind)
            if text is not None:
                return kind, text
        raise AssertionError("validated: one of them is given")


_MATCHES = ("path", "regex", "prefix")


_Credits = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=9)]


class Price(Part):
    """Credits for calls of one model of one AI service, from a day on (UTC)."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    service: Text = Field(min_length=1, max_length=64)
    model: Text = Field(min_length=1, max_length=128)
    valid_from: date = Field(alias="from")
    input_per_1000: _Credits = Decimal(0)
    output_per_1000: _Credits = Decimal(0)
    cached_per_1000: _Credits | None = None
    per_call: _Credits = Decimal(0)

    @field_validator("model")
    @classmethod
    def _is_cheap_to_match(cls, value: str) -> str:
        if value.count("*") > MAX_STARS:
            raise ValueError(f"give at most {MAX_STARS} stars")
        return value


class GatewayConfig(Part):
    """The whole document; `version` is the version of its form."""

    version: Literal[1]
    services: dict[ServiceName, Service] = Field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    limits: Limits = Limits()
    edge: Edge = Edge()
    prices: tuple[Price, ...] = ()
    prices_version: Text | None = Field(default=None, max_length=64)
    usage: UsageRules = UsageRules()

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        checks = (_repeated_ids, _unknown_services, _hidden, _unheard, _unpayable)
        problems = [one for check in checks for one in check(self)]
        if problems:
            raise PydanticCustomError(
                DOCUMENT_ERROR, "its parts don't fit together", {"problems": problems}
            )
        return self

    def document(self) -> dict[str, Any]:
        """As JSON values, with placeholders kept: what is stored and shown."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _repeated_ids(config: GatewayConfig) -> list[Misfit]:
    counts = Counter(route.id for route in config.routes)
    return [
        (
            place,
            f"route id {route.id!r} is not unique; give each its own",
        )
        for place, route in enumerate(config.routes)
        if counts[route.id] > 1
    ]


def _unknown_services(config: GatewayConfig) -> list[Misfit]:
    known = {*config.services, SERVICE_CONTROL}
    return [
        (place, f"route {one.id!r} goes to service {one.service!r}; declare it first")
        for place, one in enumerate(config.routes)
        if one.service not in known
    ]


def _hidden(config: GatewayConfig) -> list[Misfit]:
    """Routes whose match and methods an earlier one takes already."""
    taken: dict[tuple[str, str], dict[str | None, str]] = {}
    problems = []
    for place, route in enumerate(config.routes):
        owners = taken.setdefault(route.match, {})
        methods: tuple[str | None, ...] = route.methods or (None,)
        rivals = [owners[one] for one in methods if one in owners]
        if rivals:
            kind, text = route.match
            message = (
                f"route {route.id!r} can never be reached: {rivals[0]!r} has the same "
                f"{kind} {text!r} and methods"
            )
            problems.append((place, message))
        owners.update(dict.fromkeys(methods, route.id))
    return problems


def _unheard(config: GatewayConfig) -> list[Misfit]:
    """Routes whose requests the gateway answers itself."""
    taken = set(config.edge.methods)
    return [
        (place, f"route {one.id!r} can never be reached: {why}")
        for place, one in enumerate(config.routes)
        for why, is_so in (
            (f"{HEALTH_PATH} is the gateway's own", one.path == HEALTH_PATH),
            (
                "edge.methods has none of its methods; add them there",
                one.methods is not None and taken.isdisjoint(one.methods),
            ),
        )
        if is_so
    ]


def _unpayable(config: GatewayConfig) -> list[Misfit]:
    """Routes that cost more than a role's whole limit."""
    return [
        (
            place,
            f"route {one.id!r} costs {one.cost}, more than the limit of role {role!r}",
        )
        for place, one in enumerate(config.routes)
        for role in unpayable(one.rate_limit, one.cost, config.limits)
        if one.roles is None or role in one.roles
    ]


def ordered(routes: tuple[Route, ...]) -> list[Route]:
    """The order in which they are tried, as this module's docstring states it.

    Of two routes with the same match, the one for named methods is tried first. An
    expression that is given again stands where it was first given.
    """
    places: dict[tuple[str, str], int] = {}
    for place, route in enumerate(routes):
        places.setdefault(route.match, place)

    def rank(route: Route) -> tuple[int, int, str, bool]:
        kind, text = route.match
        among = (places[kind, text], "") if kind == "regex" else (-len(text), text)
        return _MATCHES.index(kind), *among, route.methods is None

    return sorted(routes, key=rank)
