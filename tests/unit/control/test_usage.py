from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from control.api import create_app
from control.usage import COLUMNS, BadParameters, Cursor, parse_query
from tests.builders import a_token
from tests.builders_control import ADMIN_TOKEN, Parts

LOGS = "/api/usage/logs"
START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def a_row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(COLUMNS),
        "id": UUID(int=number),
        "user_id": "u-1",
        "service": "openai",
        "metadata": {"request": {}},
        "created_at": START + timedelta(seconds=number),
        "recorded_at": START,
        **changes,
    }


@pytest.fixture
def parts() -> Parts:
    parts = Parts()
    parts.usage.rows = [a_row(1), a_row(2), a_row(3, user_id="u-2"), a_row(4)]
    return parts


@pytest.fixture
async def api(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(parts.deps()))
    async with httpx.AsyncClient(transport=transport, base_url="http://c") as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def numbers(answer: httpx.Response) -> list[int]:
    return [UUID(one["id"]).int for one in answer.json()["items"]]


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


async def test_without_the_database_usage_is_503(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.usage.is_available = False
    answer = await api.get(LOGS, headers=bearer(a_token()))

    assert (answer.status_code, answer.json()["code"]) == (503, "DATABASE_UNAVAILABLE")


async def test_pages_join_without_gap_or_repetition_while_rows_arrive(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    headers = bearer(a_token())
    first = await api.get(f"{LOGS}?limit=2", headers=headers)
    parts.usage.rows.append(a_row(9))
    cursor = first.json()["nextCursor"]
    second = await api.get(f"{LOGS}?limit=2&cursor={cursor}", headers=headers)

    assert numbers(first) + numbers(second) == [4, 2, 1]
    assert second.json()["nextCursor"] is None


async def test_an_item_has_the_platforms_names(api: httpx.AsyncClient) -> None:
    answer = await api.get(f"{LOGS}?limit=1", headers=bearer(a_token()))
    (item,) = answer.json()["items"]

    assert {"id", "userId", "createdAt", "inputTokens", "usageSource"} <= set(item)
    assert item["createdAt"] == "2026-01-31T12:00:04Z"
    assert item["metadata"] == {"request": {}}
    assert answer.json()["completeThrough"] is None


async def test_bad_parameters_are_all_named(api: httpx.AsyncClient) -> None:
    answer = await api.get(
        f"{LOGS}?limit=0&offset=-1&startDate=x&endDate=2026-13-01&cursor=!&foo=1"
        "&model=a&model=b",
        headers=bearer(a_token()),
    )
    twice = await api.get(f"{LOGS}?limit=1&limit=2", headers=bearer(a_token()))

    assert answer.status_code == 422
    assert twice.json()["errors"][0]["field"] == "limit"


def test_every_bad_parameter_is_reported() -> None:
    names = {"limit": "201", "offset": "x", "startDate": "x", "endDate": "2026-13-01"}

    with pytest.raises(BadParameters) as refused:
        parse_query({**names, "cursor": "!", "foo": "1", "userId": "", "model": "\n"})

    assert {one.field for one in refused.value.problems} == {
        *names,
        "cursor",
        "foo",
        "userId",
        "model",
    }


def test_a_last_day_is_included_and_a_last_instant_is_not() -> None:
    day = parse_query({"startDate": "2026-01-31", "endDate": "2026-01-31"})
    instant = parse_query({"endDate": "2026-01-31T12:00:00+02:00"})

    assert (day.start, day.end) == (
        datetime(2026, 1, 31, tzinfo=UTC),
        datetime(2026, 2, 1, tzinfo=UTC),
    )
    assert instant.end == datetime(2026, 1, 31, 10, tzinfo=UTC)


@pytest.mark.parametrize("text", ["9999-12-31", "0001-01-01T00:00:00+14:00"])
def test_a_date_at_the_edge_of_time_is_no_crash(text: str) -> None:
    with pytest.raises(BadParameters):
        parse_query({"endDate": text})


def test_a_cursor_survives_the_journey() -> None:
    cursor = Cursor(START + timedelta(microseconds=1), UUID(int=7))

    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize("text", ["", "é", "AAAA", "=", "MS4x", "." * 1000])
def test_another_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="nextCursor"):
        Cursor.parse(text)
