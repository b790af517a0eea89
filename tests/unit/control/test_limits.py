"""What an operator may say of limits, and what `ratelimit` is then told."""

from typing import Any

import httpx
import pytest

from control.api import create_app
from control.documents import ratelimit_document
from control.parse import ConfigRefused, from_document
from ratelimit.rules import RouteRules, Rule, Rules, Scope, Unit
from tests.builders_control import ADMIN_TOKEN, Parts, a_config

LIMITS = "/control/v1/limits"
GUEST = {"requests": 10, "per": "minute"}
PLAIN = {"requests": 5, "per": "minute"}
TOKENS = {"tokens": 1000, "per": "day"}
ALL_CALLERS = {"requests": 500, "per": "second", "scope": "route"}


def told(rate_limit: Any, **route: Any) -> RouteRules | None:
    """The rules of a route as `ratelimit` reads them."""
    config = a_config({"id": "a", "path": "/a", "rate_limit": rate_limit, **route})
    return Rules.from_document(ratelimit_document(config)).routes.get("a")


def refusal(document: dict[str, Any]) -> str:
    with pytest.raises(ConfigRefused) as caught:
        from_document({"version": 1, **document})
    return str(caught.value)


def route_refusal(rate_limit: Any, **route: Any) -> str:
    body = {"id": "a", "path": "/a", "service": "control", "rate_limit": rate_limit}
    return refusal({"routes": [{**body, **route}]})


@pytest.mark.parametrize(
    ("rate_limit", "rules"),
    [
        (PLAIN, (Rule(5, 60),)),
        ([PLAIN], (Rule(5, 60),)),
        (["role", PLAIN], ("role", Rule(5, 60))),
        ([PLAIN, TOKENS], (Rule(5, 60), Rule(1000, 86400, Unit.TOKENS))),
        (["role", ALL_CALLERS], ("role", Rule(500, 1, scope=Scope.ROUTE))),
        ([PLAIN, {**PLAIN, "shadow": True}], (Rule(5, 60), Rule(5, 60, shadow=True))),
    ],
    ids=["one", "list of one", "with the role's", "tokens", "all callers", "shadow"],
)
def test_every_form_of_a_routes_limits_reaches_ratelimit(
    rate_limit: Any, rules: tuple[Any, ...]
) -> None:
    assert told(rate_limit, ai=True) == RouteRules(rules, 1)


def test_a_route_that_says_nothing_of_its_own_is_not_listed() -> None:
    assert told("role") is None
    assert told("none") is None


def test_a_cost_goes_with_the_roles_limits_too() -> None:
    assert told("role", cost=5) == RouteRules(("role",), 5)


def test_a_role_may_have_several_limits() -> None:
    config = a_config()
    roles = {"user": [PLAIN, TOKENS], "guest": GUEST, "admin": "unlimited"}
    document = {**config.document(), "limits": {"roles": roles}}
    rules = Rules.from_document(ratelimit_document(from_document(document)))

    assert rules.roles["user"] == (Rule(5, 60), Rule(1000, 86400, Unit.TOKENS))
    assert rules.roles["admin"] is None


@pytest.mark.parametrize(
    ("rate_limit", "route", "message"),
    [
        ({"per": "minute"}, {}, "give either requests or tokens"),
        ({**PLAIN, "tokens": 1}, {}, "give either requests or tokens"),
        ([], {}, "at least 1 item"),
        (["none"], {}, "Input should be 'role'"),
        ([PLAIN, {**PLAIN, "requests": 9}], {}, "differ in nothing but their amount"),
        (["role", "role"], {}, "differ in nothing but their amount"),
        (TOKENS, {}, "tokens are only known on routes with ai: true"),
        (PLAIN, {"cost": 6}, "a request costs 6 and 5 are the limit"),
        ("role", {"cost": 11}, "more than the limit of role 'guest'"),
        ({**PLAIN, "scope": "galaxy"}, {}, "scope"),
        ({**PLAIN, "per": "fortnight"}, {}, "per"),
    ],
)
def test_limits_that_can_not_be_meant_are_refused_with_the_reason(
    rate_limit: Any, route: dict[str, Any], message: str
) -> None:
    assert message in route_refusal(rate_limit, **route)


def test_a_cost_is_measured_against_the_roles_that_may_call() -> None:
    assert told("role", cost=50, roles=["user", "admin"]) == RouteRules(("role",), 50)


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"user": PLAIN}, "give guest a limit"),
        ({"guest": ALL_CALLERS}, "scope: route goes with a route's rate_limit"),
        ({"guest": [GUEST, PLAIN]}, "differ in nothing but their amount"),
        ({"guest": "none"}, "Input should be 'unlimited'"),
    ],
)
def test_role_limits_that_can_not_be_meant_are_refused(
    roles: dict[str, Any], message: str
) -> None:
    assert message in refusal({"limits": {"roles": roles}})


@pytest.fixture
async def parts() -> Parts:
    parts = Parts()
    await parts.changes.start(a_config({"id": "dear", "path": "/a", "cost": 5}))
    return parts


def a_client(parts: Parts) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(parts.deps())),
        base_url="http://c",
        headers={"authorization": f"Bearer {ADMIN_TOKEN}"},
    )


async def test_limits_are_put_read_and_handed_to_ratelimit(parts: Parts) -> None:
    roles = {"admin": "unlimited", "user": [PLAIN, TOKENS], "guest": GUEST}
    async with a_client(parts) as api:
        put = await api.put(LIMITS, json={"roles": roles})
        read = await api.get(LIMITS)
        whole = await api.get("/control/v1/config")

    assert put.json()["limits"] == read.json()
    assert read.json() == {"roles": roles, "max_request_bytes": 10 * 1024 * 1024}
    assert whole.json()["config"]["limits"] == {"roles": roles}
    handed = Rules.from_document(ratelimit_document(parts.rules.published[-1]))
    assert handed.roles["user"] == (Rule(5, 60), Rule(1000, 86400, Unit.TOKENS))


async def test_what_is_not_given_stays(parts: Parts) -> None:
    async with a_client(parts) as api:
        await api.put(LIMITS, json={"max_request_bytes": 2048})
        await api.put(LIMITS, json={"roles": {"guest": GUEST}})
        read = await api.get(LIMITS)

    assert read.json() == {"roles": {"guest": GUEST}, "max_request_bytes": 2048}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"roles": {"user": PLAIN}}, "guest"),
        ({"role": {}}, "did you mean roles?"),
        ({"roles": {"guest": {"requests": 4, "per": "minute"}}}, "'dear' costs 5"),
        ({"roles": {"guest": {"requests": 0, "per": "minute"}}}, "greater than"),
    ],
)
async def test_limits_that_do_not_fit_change_nothing(
    parts: Parts, body: dict[str, Any], message: str
) -> None:
    async with a_client(parts) as api:
        before = await api.get(LIMITS)
        put = await api.put(LIMITS, json=body)
        after = await api.get(LIMITS)

    assert put.status_code == 422
    assert message in str(put.json())
    assert before.json() == after.json()


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_limits_ask_for_the_admin_token(parts: Parts, method: str) -> None:
    async with a_client(parts) as api:
        answer = await api.request(
            method, LIMITS, json={}, headers={"authorization": "Bearer wrong"}
        )

    assert answer.status_code == 401
