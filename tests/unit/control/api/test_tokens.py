"""Tokens are issued."""

from typing import Any

import httpx
import pytest

from runtime.identity.tokens import Claims
from tests.builders import NOW, a_verifier
from tests.builders_control import Parts
from tests.unit.control.api.client import CONFIG, a_client


async def test_a_token_can_be_issued_and_verifies(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    body = {"user": "u", "role": "user", "ttl_s": 60}
    answer = await api.post(f"{CONFIG}/tokens", json=body)
    claims = await a_verifier(parts.clock).verify(answer.json()["token"])

    assert answer.status_code == 201
    assert isinstance(claims, Claims)
    assert (claims.sub, claims.role, claims.exp) == ("u", "user", NOW + 60)
    assert claims.jti == answer.json()["jti"]


@pytest.mark.parametrize(
    "body",
    [
        {"role": "user"},
        {"user": "u"},
        {"user": "", "role": "user"},
        {"user": " u", "role": "user"},
        {"user": "u\n", "role": "user"},
        {"user": 1, "role": "user"},
        {"user": "u", "role": "user", "ttl_s": 0},
        {"user": "u", "role": "user", "ttl_s": True},
        {"user": "u", "role": "user", "ttl": 5},
        # The revocation of its user would end before it does.
        {"user": "u", "role": "user", "ttl_s": 3601},
    ],
)
async def test_a_token_for_nobody_is_refused(
    api: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    assert (await api.post(f"{CONFIG}/tokens", json=body)).status_code == 422


async def test_without_a_signing_key_no_token_is_issued(parts: Parts) -> None:
    async with a_client(parts, signs=False) as api:
        answer = await api.post(f"{CONFIG}/tokens", json={"user": "u", "role": "user"})

    assert (answer.status_code, answer.json()["code"]) == (409, "NOT_ENABLED")


async def test_a_token_that_is_issued_is_in_the_audit_log_but_for_itself(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    body = {"user": "ada", "role": "manager"}
    issued = (await api.post(f"{CONFIG}/tokens", json=body)).json()
    (kept,) = parts.audit.kept

    assert (kept.entry.action, kept.entry.subject) == ("token.issued", "ada")
    assert kept.entry.details == {
        "role": "manager",
        "jti": issued["jti"],
        "expiresAt": issued["expiresAt"],
    }


async def test_a_token_that_nobody_can_note_is_not_issued(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.audit.is_available = False
    body = {"user": "ada", "role": "user"}
    answer = await api.post(f"{CONFIG}/tokens", json=body)

    assert (answer.status_code, answer.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
