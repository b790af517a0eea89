"""Who is counted where, and how much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit.callers import Caller, fold_address, subject
from ratelimit.rules import Rule, Rules
from ratelimit.store import Charge, Mode

USER = Caller("user", "u-1", "192.0.2.7")
DOCUMENT = {
    "roles": {
        "admin": None,
        "user": {"requests": 5, "per_s": 60},
        "guest": {"requests": 2, "per_s": 60},
    },
    "routes": {"jobs": {"requests": 3, "per_s": 3600}},
}


@pytest.mark.parametrize(
    ("role", "limit"), [("manager", 120), ("user", 60), ("guest", 10), ("other", 10)]
)
def test_the_platforms_limits_hold_without_any_configuration(
    role: str, limit: int
) -> None:
    (charge,) = Rules().charges(Caller(role, "u-1", ""), "users", 1)

    assert (charge.limit, charge.window_ms) == (limit, 60_000)


def test_admin_is_not_counted() -> None:
    assert Rules().charges(Caller("admin", "a", ""), "users", 1) == []


def test_a_route_with_its_own_limit_uses_it_in_place_of_the_roles() -> None:
    rules = Rules.from_document(DOCUMENT)

    assert rules.charges(USER, "jobs", 1) == [
        Charge("rl:{u:u-1}:route:jobs:3600", 3, 3_600_000, 1)
    ]
    assert rules.charges(USER, "users", 2) == [
        Charge("rl:{u:u-1}:role:60", 5, 60_000, 2)
    ]
    assert rules.charges(Caller("admin", "a", ""), "jobs", 1) == []


ROLES_OF_LENGTHS = {
    "guest": [{"requests": 2, "per_s": 60}],
    "user": [{"requests": 5, "per_s": 3600}, {"tokens": 9, "per_s": 3600}],
    "trial": [{"requests": 5, "per_s": 60, "shadow": True}],
}


def test_a_role_whose_limit_has_another_length_keeps_the_users_count() -> None:
    rules = Rules.from_document({"roles": ROLES_OF_LENGTHS, "routes": {}})
    as_user = rules.charges(USER, "users", 1)
    as_guest = rules.charges(Caller("guest", "u-1", ""), "users", 1)

    assert [(one.key, one.mode) for one in as_user] == [
        ("rl:{u:u-1}:role:3600", Mode.ENFORCE),
        ("rl:{u:u-1}:role:60", Mode.SETTLE),
    ]
    assert [(one.key, one.mode) for one in as_guest] == [
        ("rl:{u:u-1}:role:60", Mode.ENFORCE),
        ("rl:{u:u-1}:role:3600", Mode.SETTLE),
    ]
    assert rules.settlements(Caller("guest", "u-1", ""), "ai", 7) == [
        Charge("rl:{u:u-1}:role:tokens:3600", 1, 3_600_000, 7, Mode.SETTLE)
    ]


def test_every_kind_of_rule_has_a_counter_of_its_own() -> None:
    shadow = {"requests": 5, "per_s": 60, "shadow": True}
    route = [
        "role",
        {"requests": 3, "per_s": 60},
        shadow,
        {"requests": 7, "per_s": 60, "scope": "route"},
        {"tokens": 9, "per_s": 60},
    ]
    rules = Rules.from_document(
        {**DOCUMENT, "routes": {"a": {"cost": 2, "rules": route}}}
    )
    charges = rules.charges(USER, "a", 1, tokens=True)

    assert [(one.key, one.hits, one.mode) for one in charges] == [
        ("rl:{u:u-1}:role:60", 2, Mode.ENFORCE),
        ("rl:{u:u-1}:route:a:60", 2, Mode.ENFORCE),
        ("rl:{u:u-1}:route:a:shadow:60", 2, Mode.SHADOW),
        ("rl:{r:a}:all:60", 2, Mode.ENFORCE),
        ("rl:{u:u-1}:route:a:tokens:60", 1, Mode.LOOK),
    ]
    assert charges[2].rule == "route a: 5 requests per 60 s"
    assert len(rules.charges(USER, "a", 1)) == 4
    assert [one.hits for one in rules.settlements(USER, "a", 33)] == [33]
    assert rules.settlements(Caller("admin", "a", ""), "a", 33) == []


def test_a_route_without_rules_is_not_limited() -> None:
    rules = Rules.from_document({**DOCUMENT, "routes": {"a": {"rules": []}}})

    assert rules.charges(USER, "a", 1) == []


def test_a_user_named_like_a_route_does_not_share_its_counter() -> None:
    names = {subject(Caller("user", name, "")) for name in ("r:a", "a", "r%3Aa")}

    assert "r:a" not in names
    assert len(names) == 3


def test_another_role_keeps_the_users_counter() -> None:
    keys = {
        Rules().charges(Caller(role, "u-1", ""), "users", 1)[0].key
        for role in ("user", "manager", "unheard-of")
    }

    assert len(keys) == 1


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "roles must be an object"),
        ({"roles": [], "routes": {}}, "roles must be an object"),
        ({"roles": {}, "routes": {}}, "roles.guest is missing"),
        ({"roles": {"guest": None}, "routes": 3}, "routes must be an object"),
        (
            {"roles": {"guest": {"requests": 0, "per_s": 1}}, "routes": {}},
            "roles.guest must have",
        ),
        (
            {"roles": {"guest": {"requests": True, "per_s": 1}}, "routes": {}},
            "roles.guest must have",
        ),
        (
            {"roles": {"guest": None}, "routes": {"a": {"requests": 1}}},
            "routes.a must have",
        ),
        (
            {"roles": {"guest": None}, "routes": {"a": {"rules": [], "cost": 0}}},
            "routes.a.cost must be",
        ),
        (
            {"roles": {"guest": None}, "routes": {"a": {"rules": "role"}}},
            "routes.a.rules must be a list",
        ),
        (
            {"roles": {"guest": None}, "routes": {"a": {"rules": ["none"]}}},
            "routes.a.rules.0. must have",
        ),
        (
            {
                "roles": {"guest": {"requests": 1, "per_s": 1, "scope": "x"}},
                "routes": {},
            },
            "roles.guest must have",
        ),
    ],
    ids=[
        *("empty", "roles", "no guest", "routes", "zero", "boolean", "no window"),
        *("cost", "no list", "no rule", "scope"),
    ],
)
def test_a_bad_document_is_refused_by_name(
    document: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Rules.from_document(document)


def test_rules_of_a_document_are_typed() -> None:
    rules = Rules.from_document(DOCUMENT)

    assert rules.roles["user"] == (Rule(5, 60),)
    assert rules.roles["admin"] is None


@pytest.mark.parametrize(
    ("address", "folded"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::9", "2001:db8:1:2::/64"),
        ("", "unknown"),
        ("nonsense", "unknown"),
    ],
)
def test_addresses_that_one_client_can_choose_between_are_one(
    address: str, folded: str
) -> None:
    assert fold_address(address) == folded


NAMES = st.text(st.characters(codec="utf-8"), min_size=1)


@given(NAMES, NAMES)
def test_different_users_never_share_a_counter(one: str, other: str) -> None:
    names = [subject(Caller("user", user, "")) for user in (one, other)]

    assert (names[0] == names[1]) == (one == other)
    assert all(
        len(name) <= 70 and "{" not in name and "}" not in name for name in names
    )


def test_a_user_named_like_an_address_is_not_a_guest() -> None:
    guest = subject(Caller("guest", "", "192.0.2.7"))

    assert subject(Caller("user", "192.0.2.7", "")) != guest
