"""Route policy, credential and revocation make the decision, and nothing else."""

import json

import pytest

from authz import credentials
from authz.authorizer import AccessRequest, Authorizer, OnRedisDown
from authz.credentials import Bearer, Malformed, Missing
from authz.decision import Allow, Deny, Policy, PolicyMissing
from runtime.clock import FakeClock
from runtime.contracts import AuthPolicy, ErrorCode, LimitScope
from runtime.identity.blacklist import MemoryBlacklist
from runtime.metrics import Metrics
from tests.builders import NOW, a_token, a_token_with_header, a_verifier

REQUIRED = Policy("users", AuthPolicy.REQUIRED)
OPTIONAL = Policy("users", AuthPolicy.OPTIONAL)
REFRESH = Policy("refresh", AuthPolicy.ALLOW_EXPIRED)
OPEN = Policy("auth", AuthPolicy.NONE)
ADMINS = Policy("metrics", AuthPolicy.REQUIRED, frozenset({"admin"}))

LEEWAY_S, EXPIRED_S = 30, 600


class Bench:
    """An authorizer with everything that it touches at hand."""

    def __init__(self, on_redis_down: OnRedisDown = OnRedisDown.DENY) -> None:
        self.blacklist = MemoryBlacklist()
        self.clock = FakeClock(NOW)
        self.metrics = Metrics()
        self.authorizer = Authorizer(
            verifier=a_verifier(self.clock),
            blacklist=self.blacklist,
            on_redis_down=on_redis_down,
            metrics=self.metrics,
            allow_expired_s=EXPIRED_S,
        )

    async def decide(self, policy: Policy, token: str | None = None) -> Allow | Deny:
        header = None if token is None else f"Bearer {token}"
        return await self.authorizer.decide(AccessRequest(policy, "/api/users", header))

    def failures(self, action: str) -> float:
        return self.metrics.value("hubgate_authz_store_failures_total", action=action)

    async def code(self, policy: Policy, token: str | None = None) -> ErrorCode:
        decision = await self.decide(policy, token)
        assert isinstance(decision, Deny), decision
        return decision.code


async def test_a_genuine_token_passes_as_its_user() -> None:
    assert await Bench().decide(REQUIRED, a_token()) == Allow("u-1", "user", "token")


@pytest.mark.parametrize("policy", [OPTIONAL, OPEN], ids=["optional", "none"])
async def test_a_guest_passes_where_no_token_is_required(policy: Policy) -> None:
    assert await Bench().decide(policy) == Allow(None, "guest", "guest")


@pytest.mark.parametrize(
    "policy", [REQUIRED, ADMINS, REFRESH], ids=["required", "roles", "allow_expired"]
)
async def test_a_guest_is_denied_where_one_is(policy: Policy) -> None:
    assert await Bench().code(policy) is ErrorCode.TOKEN_MISSING


async def test_a_guest_is_denied_where_roles_are_asked_of_optional_callers() -> None:
    policy = Policy("x", AuthPolicy.OPTIONAL, frozenset({"admin"}))

    assert await Bench().code(policy) is ErrorCode.TOKEN_MISSING


async def test_a_bad_token_is_denied_even_where_none_is_required() -> None:
    assert await Bench().code(OPTIONAL, "nonsense") is ErrorCode.TOKEN_INVALID


async def test_an_open_route_looks_at_no_token() -> None:
    assert await Bench().decide(OPEN, "nonsense") == Allow(None, "guest", "guest")


@pytest.mark.parametrize("policy", [REQUIRED, OPEN], ids=["required", "none"])
async def test_a_path_with_two_readings_is_refused_whoever_asks(policy: Policy) -> None:
    request = AccessRequest(policy, "/api/..;/admin", f"Bearer {a_token()}")
    decision = await Bench().authorizer.decide(request)

    assert isinstance(decision, Deny)
    assert (decision.code, decision.status) == (ErrorCode.BAD_REQUEST, 400)


async def test_an_expired_token_is_denied_as_expired() -> None:
    bench = Bench()
    token = a_token(exp=NOW + 60)
    bench.clock.advance(91)

    assert await bench.code(REQUIRED, token) is ErrorCode.TOKEN_EXPIRED


async def test_an_expired_token_passes_for_a_while_where_it_is_exchanged() -> None:
    bench = Bench()
    token = a_token(exp=NOW)
    bench.clock.advance(LEEWAY_S + EXPIRED_S - 1)
    in_time = await bench.decide(REFRESH, token)
    bench.clock.advance(1)

    assert in_time == Allow("u-1", "user", "token")
    assert await bench.code(REFRESH, token) is ErrorCode.TOKEN_EXPIRED


async def test_where_expired_tokens_pass_revoked_and_forged_ones_do_not() -> None:
    bench = Bench()
    expired = a_token(exp=NOW - 60)
    forged = a_token_with_header({"alg": "HS256"}, secret=b"x" * 32, exp=NOW - 60)
    bench.blacklist.token_ids.add("t-1")

    assert await bench.code(REFRESH, expired) is ErrorCode.TOKEN_REVOKED
    assert await bench.code(REFRESH, forged) is ErrorCode.TOKEN_INVALID
    assert await bench.code(REFRESH, a_token(exp=...)) is ErrorCode.TOKEN_INVALID


async def test_a_revoked_token_is_denied() -> None:
    bench = Bench()
    bench.blacklist.token_ids.add("t-1")

    assert await bench.code(REQUIRED, a_token()) is ErrorCode.TOKEN_REVOKED


async def test_all_earlier_tokens_of_a_revoked_user_are_denied() -> None:
    bench = Bench()
    bench.blacklist.user_cutoffs["u-1"] = str(NOW).encode()

    assert await bench.code(REQUIRED, a_token()) is ErrorCode.TOKEN_REVOKED
    later = a_token(iat=NOW + 1)
    assert isinstance(await bench.decide(REQUIRED, later), Allow)


@pytest.mark.parametrize(
    "role", ["user", "Admin", "admins", "\u0430dmin", "superadmin"]
)
async def test_another_role_is_forbidden_however_alike_it_looks(role: str) -> None:
    assert await Bench().code(ADMINS, a_token(role=role)) is ErrorCode.FORBIDDEN


async def test_the_listed_role_passes() -> None:
    decision = await Bench().decide(ADMINS, a_token(role="admin"))

    assert decision == Allow("u-1", "admin", "token")


async def test_without_the_blacklist_tokens_are_denied_by_default() -> None:
    bench = Bench()
    bench.blacklist.is_available = False

    assert await bench.code(REQUIRED, a_token()) is ErrorCode.AUTH_UNAVAILABLE
    assert bench.failures("deny") == 1


async def test_without_the_blacklist_tokens_pass_when_so_set() -> None:
    bench = Bench(OnRedisDown.ALLOW)
    bench.blacklist.is_available = False

    assert isinstance(await bench.decide(REQUIRED, a_token()), Allow)
    assert bench.failures("allow") == 1


async def test_a_bad_token_is_denied_whatever_the_blacklist_does() -> None:
    bench = Bench(OnRedisDown.ALLOW)
    bench.blacklist.is_available = False

    assert await bench.code(REQUIRED, a_token(exp=...)) is ErrorCode.TOKEN_INVALID


@pytest.mark.parametrize(
    ("authorization", "protocol", "expected"),
    [
        pytest.param(None, None, Missing(), id="nothing"),
        pytest.param("Bearer a.b.c", None, Bearer("a.b.c"), id="header"),
        pytest.param("bEARER a.b.c", None, Bearer("a.b.c"), id="scheme in any case"),
        pytest.param("", None, Malformed("not_bearer"), id="empty header"),
        pytest.param("Basic YTpi", None, Malformed("not_bearer"), id="Basic"),
        pytest.param("Bearer", None, Malformed("not_one_token"), id="no token"),
        pytest.param("Bearer  a", None, Malformed("not_one_token"), id="two spaces"),
        pytest.param(
            "Bearer a,Bearer b", None, Malformed("several_credentials"), id="two"
        ),
        pytest.param(None, "bearer, a.b.c", Bearer("a.b.c"), id="subprotocol"),
        pytest.param(None, "chat, v2", Missing(), id="another subprotocol"),
        pytest.param(None, "bearer", Malformed("not_one_token"), id="bearer alone"),
        pytest.param(
            None, "bearer, a, b", Malformed("not_one_token"), id="two subprotocols"
        ),
        pytest.param(
            "Bearer a.b.c", "bearer, x.y.z", Bearer("a.b.c"), id="the header wins"
        ),
    ],
)
def test_one_credential_is_found_or_the_request_is_malformed(
    authorization: str | None, protocol: str | None, expected: object
) -> None:
    assert credentials.find(authorization, protocol) == expected


def test_a_token_never_shows_itself() -> None:
    assert "a.b.c" not in repr(Bearer("a.b.c"))


@pytest.mark.parametrize(
    "text",
    [
        *("{}", '{"route": "x"}', '{"auth": "required"}'),
        *('{"route": "x", "auth": "maybe"}', "", "{", "[]", "7", "null", '"route"'),
        '{"route": "x", "auth": "required", "roles": ["admin"]}',
        '{"route": "x", "auth": "required", "limits": "all"}',
    ],
)
def test_a_request_without_a_readable_policy_has_none(text: str) -> None:
    with pytest.raises(PolicyMissing):
        Policy.from_context({"policy": text})


@pytest.mark.parametrize(
    "context",
    [{}, {"route": "x"}, {"auth": "required"}, {"route": "x", "auth": "maybe"}],
    ids=["empty", "no auth", "no route", "unknown auth"],
)
def test_a_request_without_a_policy_has_none(context: dict[str, str]) -> None:
    with pytest.raises(PolicyMissing):
        Policy.from_context(context)


def test_a_policy_of_an_earlier_control_is_read_member_by_member() -> None:
    context = {"route": "m", "auth": "required", "roles": "admin", "limits": "tokens"}

    policy = Policy.from_context({**context, "service": "s", "more": "x"})

    roles = frozenset({"admin"})
    limits = LimitScope.TOKENS
    assert policy == Policy("m", AuthPolicy.REQUIRED, roles, limits=limits, service="s")


def test_a_policy_travels_in_context_extensions() -> None:
    said = {
        "route": 'm"\\',
        "auth": "required",
        "roles": "admin,manager",
        "service": "é",
    }

    policy = Policy.from_context({"policy": json.dumps(said)})

    roles = frozenset({"admin", "manager"})
    assert policy == Policy('m"\\', AuthPolicy.REQUIRED, roles, service="é")
