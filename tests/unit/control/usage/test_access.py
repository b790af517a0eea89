"""Who may see which rows, and what of them."""

import httpx
import pytest

from control.api import create_app
from tests.builders import a_token
from tests.builders_control import ADMIN_TOKEN, Parts, a_config
from tests.unit.control.usage.ledger import LOGS, a_row, bearer, numbers


@pytest.mark.parametrize("role", ["user", "manager", "Admin"])
async def test_a_caller_sees_the_own_rows_only(
    api: httpx.AsyncClient, role: str
) -> None:
    answer = await api.get(LOGS, headers=bearer(a_token(role=role)))

    assert numbers(answer) == [4, 2, 1]


async def test_another_users_rows_are_forbidden(api: httpx.AsyncClient) -> None:
    answer = await api.get(f"{LOGS}?userId=u-2", headers=bearer(a_token()))

    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")


async def test_headers_that_name_a_user_count_for_nothing(
    api: httpx.AsyncClient,
) -> None:
    headers = {**bearer(a_token()), "x-user-id": "u-2", "x-user-role": "admin"}
    answer = await api.get(LOGS, headers=headers)
    alone = await api.get(LOGS, headers={"x-user-id": "u-2", "x-user-role": "admin"})

    assert numbers(answer) == [4, 2, 1]
    assert alone.status_code == 401


@pytest.mark.parametrize("token", [ADMIN_TOKEN, a_token(role="admin")])
async def test_an_admin_sees_all_or_those_of_one(
    api: httpx.AsyncClient, token: str
) -> None:
    everything = await api.get(LOGS, headers=bearer(token))
    of_one = await api.get(f"{LOGS}?userId=u-2", headers=bearer(token))

    assert numbers(everything) == [4, 3, 2, 1]
    assert numbers(of_one) == [3]


async def test_a_revoked_token_opens_nothing(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.blacklist.token_ids.add("t-1")
    answer = await api.get(LOGS, headers=bearer(a_token()))

    assert (answer.status_code, answer.json()["code"]) == (401, "TOKEN_REVOKED")


async def test_when_nobody_can_tell_the_answer_is_503(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.blacklist.is_available = False
    answer = await api.get(LOGS, headers=bearer(a_token()))

    assert (answer.status_code, answer.json()["code"]) == (503, "AUTH_UNAVAILABLE")


async def test_an_expired_token_is_told_so(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.clock.advance(10_000)
    answer = await api.get(LOGS, headers=bearer(a_token()))

    assert answer.json()["code"] == "TOKEN_EXPIRED"


async def test_the_machines_are_hidden_from_all_but_admins(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    metadata = {"system": {"instanceId": "n"}, "request": {"endpoint": "/"}}
    parts.usage.rows = [a_row(1, metadata=metadata)]
    of_user = await api.get(LOGS, headers=bearer(a_token()))
    of_admin = await api.get(LOGS, headers=bearer(ADMIN_TOKEN))

    assert of_user.json()["items"][0]["metadata"] == {"request": {"endpoint": "/"}}
    assert of_admin.json()["items"][0]["metadata"] == metadata


async def test_what_is_hidden_goes_by_the_role(parts: Parts) -> None:
    hidden = {"user": ["session", "request.parameters"], "admin": ["request"]}
    config = a_config()
    rules = {"usage": {"hidden_metadata": hidden}}
    await parts.changes.start(type(config).model_validate(config.document() | rules))
    request = {"endpoint": "/", "parameters": {"q": "secret"}}
    metadata = {"request": request, "session": {}, "system": {}}
    parts.usage.rows = [a_row(1, metadata=metadata), a_row(2, metadata={"request": 7})]
    transport = httpx.ASGITransport(create_app(parts.deps()))
    async with httpx.AsyncClient(transport=transport, base_url="http://c") as api:
        logs = await api.get(f"{LOGS}?sort=createdAt", headers=bearer(a_token()))
        me = await api.get("/api/usage/me", headers=bearer(a_token()))
        of_admin = await api.get(f"{LOGS}?limit=1", headers=bearer(ADMIN_TOKEN))

    shown = [one["metadata"] for one in logs.json()["items"]]
    assert shown == [{"request": {"endpoint": "/"}, "system": {}}, {"request": 7}]
    assert [one["metadata"] for one in me.json()["recent"]] == shown[::-1]
    assert of_admin.json()["items"][0]["metadata"] == {}
