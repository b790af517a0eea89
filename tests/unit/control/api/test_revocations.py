"""Tokens and users are revoked, for as long as it matters."""

import base64
from typing import Any

import httpx
import pytest

from tests.builders import NOW, a_token
from tests.builders_control import Parts
from tests.unit.control.api.client import (
    CONFIG,
)


async def test_a_token_is_revoked_for_as_long_as_it_lives(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    token = a_token(jti="t-9", exp=NOW + 100)
    answer = await api.post(f"{CONFIG}/revocations", json={"token": token})

    assert answer.status_code == 200
    assert parts.revocations.keys == {"bl:t-9": 130}


async def test_a_token_that_lives_for_years_is_revoked_for_years(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    years = 3 * 366 * 86_400
    token = a_token(jti="t-9", exp=NOW + years)
    await api.post(f"{CONFIG}/revocations", json={"token": token})

    assert parts.revocations.keys == {"bl:t-9": years + 30}


#: The longest token of these tests, and the leeway.
LONGEST_S = 3600 + 30


@pytest.mark.parametrize("kind", ["jti", "user"])
async def test_what_is_revoked_by_name_stays_so_until_no_token_is_of_use(
    api: httpx.AsyncClient, kind: str
) -> None:
    answer = await api.post(f"{CONFIG}/revocations", json={kind: "a"})

    assert answer.json()["expiresIn"] == LONGEST_S


@pytest.mark.parametrize("exp", ["null", '"9"', "true", "NaN", "1e999", "9" * 400])
async def test_a_token_that_does_not_say_its_end_is_revoked_as_long_as_any_may_live(
    api: httpx.AsyncClient, parts: Parts, exp: str
) -> None:
    segments = (b"{}", b'{"jti":"t","exp":%s}' % exp.encode(), b"x")
    token = b".".join(base64.urlsafe_b64encode(one).rstrip(b"=") for one in segments)
    answer = await api.post(f"{CONFIG}/revocations", json={"token": token.decode()})

    assert answer.status_code == 200
    assert parts.revocations.keys == {"bl:t": LONGEST_S}


async def test_a_jti_and_a_user_can_be_revoked(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    await api.post(f"{CONFIG}/revocations", json={"jti": "t-1"})
    await api.post(f"{CONFIG}/revocations", json={"user": "u-1"})

    assert set(parts.revocations.keys) == {"bl:t-1", "bl:user:u-1"}
    assert parts.revocations.keys["bl:user:u-1"] == NOW


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"jti": "a", "user": "b"},
        {"nope": "a"},
        {"token": "no.jwt.here"},
        {"token": a_token(jti=...)},
        {"jti": ""},
        {"jti": "user:u-1"},
        {"user": 5},
    ],
)
async def test_a_revocation_of_nothing_is_refused(
    api: httpx.AsyncClient, parts: Parts, body: dict[str, Any]
) -> None:
    answer = await api.post(f"{CONFIG}/revocations", json=body)

    assert answer.status_code == 422
    assert parts.revocations.keys == {}


async def test_a_revocation_that_redis_did_not_take_is_503(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.revocations.is_available = False
    answer = await api.post(f"{CONFIG}/revocations", json={"jti": "a"})

    assert (answer.status_code, answer.json()["code"]) == (503, "REDIS_UNAVAILABLE")


async def test_who_revoked_whom_is_in_the_audit_log(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    await api.post(f"{CONFIG}/revocations", json={"token": a_token(jti="t-9")})
    await api.post(f"{CONFIG}/revocations", json={"user": "ada"})
    noted = [one.entry for one in parts.audit.kept]

    assert [(one.action, one.role, one.subject) for one in noted] == [
        ("token.revoked", "admin", None),
        ("token.revoked", "admin", "ada"),
    ]
    assert [one.details.get("jti") for one in noted] == ["t-9", None]


async def test_a_revocation_that_nobody_can_note_is_in_force_and_counted(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.audit.is_available = False
    answer = await api.post(f"{CONFIG}/revocations", json={"jti": "t-9"})

    assert answer.status_code == 200
    assert set(parts.revocations.keys) == {"bl:t-9"}
    assert parts.metrics.value("hubgate_revocations_unnoted_total") == 1
