from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from control.api import create_app
from control.completeness import Minute, Watermark
from control.parameters import BadParameters
from control.usage import COLUMNS, Cursor, parse_query
from tests.builders import a_token
from tests.builders_control import ADMIN_TOKEN, Parts, a_config

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
        "status": 200,
        **changes,
    }


@pytest.fixture
def parts() -> Parts:
    parts = Parts()
    parts.usage.rows = [a_row(1), a_row(2), a_row(3, user_id="u-2"), a_row(4)]
    return parts


@pytest.fixture
async def api(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    await parts.changes.start(a_config())
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
    names |= {"status": "6xx", "outcome": "Ok", "sort": "tokens", "fields": "id,id"}
    names |= {"aggregate": "1"}

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

    assert (day.chosen.start, day.chosen.end) == (
        datetime(2026, 1, 31, tzinfo=UTC),
        datetime(2026, 2, 1, tzinfo=UTC),
    )
    assert instant.chosen.end == datetime(2026, 1, 31, 10, tzinfo=UTC)


@pytest.mark.parametrize("text", ["9999-12-31", "0001-01-01T00:00:00+14:00"])
def test_a_date_at_the_edge_of_time_is_no_crash(text: str) -> None:
    with pytest.raises(BadParameters, match="give one that is not at the edge"):
        parse_query({"endDate": text})


@pytest.mark.parametrize(
    "text", ["20260131", "2026-W05-6", "2026-01-31\x0008:00:00", "2026-01-31x08:00"]
)
def test_what_is_neither_a_day_nor_an_instant_is_refused(text: str) -> None:
    with pytest.raises(BadParameters):
        parse_query({"endDate": text})


@pytest.mark.parametrize(
    "text",
    [
        *(
            "2026-01-31T08:00:00Z",
            "2026-01-31T09:00+01:00",
            "2026-01-31T08:00:00.000000Z",
        ),
        *("2026-01-31T09:00:00 01:00", "2026-01-31 08:00", "20260131T080000Z"),
    ],
)
def test_an_instant_may_be_written_in_each_of_these_ways(text: str) -> None:
    at = parse_query({"endDate": text}).chosen.end

    assert at == datetime(2026, 1, 31, 8, tzinfo=UTC)


def test_a_cursor_survives_the_journey() -> None:
    cursor = Cursor(START + timedelta(microseconds=1), UUID(int=7))

    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text",
    [
        "",
        "é",
        "AAAA",
        "=",
        "MS4x",
        "." * 1000,
        "\0" * 4 + str(Cursor(START, UUID(int=7))),
    ],
)
def test_another_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="nextCursor"):
        Cursor.parse(text)


def a_mark(node: str, minute: int, *, is_closed: bool = False) -> Watermark:
    return Watermark(
        node=node,
        complete_through=START + timedelta(minutes=minute),
        basis="file",
        pending=0,
        is_closed=is_closed,
        updated_at=START,
    )


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        pytest.param([], None, id="nobody has claimed anything"),
        pytest.param([("a", 5, False), ("b", 3, False)], 3, id="the slowest decides"),
        pytest.param([("a", 5, False), ("b", 3, True)], 5, id="closed nodes do not"),
        pytest.param([("a", 5, True), ("b", 3, True)], 5, id="all nodes are closed"),
    ],
)
async def test_an_answer_says_through_when_it_is_complete(
    api: httpx.AsyncClient,
    parts: Parts,
    marks: list[tuple[str, int, bool]],
    expected: int | None,
) -> None:
    parts.usage.marks = [a_mark(node, at, is_closed=c) for node, at, c in marks]
    answer = await api.get(LOGS, headers=bearer(ADMIN_TOKEN))
    instant = None if expected is None else f"2026-01-31T12:{expected:02d}:00Z"
    assert answer.json()["completeThrough"] == instant


COMPLETENESS = "/api/usage/completeness"


async def test_an_administrator_sees_what_each_node_claims_and_counted(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.usage.marks = [a_mark("b", 3), a_mark("a", 5)]
    parts.usage.counts = [
        Minute(
            node="a",
            minute=START + timedelta(minutes=at),
            admitted=9,
            recorded=8,
            unsettled=1,
            quarantined=0,
        )
        for at in (0, 1, 2)
    ]
    range_ = {"startDate": "2026-01-31T12:01:00Z", "endDate": "2026-01-31T12:02:00Z"}
    answer = await api.get(COMPLETENESS, params=range_, headers=bearer(ADMIN_TOKEN))

    assert answer.status_code == 200
    body = answer.json()
    assert body["completeThrough"] == "2026-01-31T12:03:00Z"
    assert [one["node"] for one in body["nodes"]] == ["a", "b"]
    assert body["minutes"] == [
        {
            "node": "a",
            "minute": "2026-01-31T12:01:00Z",
            "admitted": 9,
            "recorded": 8,
            "unsettled": 1,
            "quarantined": 0,
        }
    ]


async def test_completeness_is_for_administrators(api: httpx.AsyncClient) -> None:
    answer = await api.get(COMPLETENESS, headers=bearer(a_token()))
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "range_",
    [
        {"startDate": "yesterday"},
        {"userId": "u-1"},
        {"startDate": "2026-01-31", "endDate": "2026-01-30"},
        {"startDate": "2026-01-01", "endDate": "2026-01-31"},
    ],
)
async def test_a_range_of_minutes_is_at_most_a_day(
    api: httpx.AsyncClient, range_: dict[str, str]
) -> None:
    answer = await api.get(COMPLETENESS, params=range_, headers=bearer(ADMIN_TOKEN))
    assert answer.status_code == 422
    (problem,) = answer.json()["errors"]
    assert problem["field"] in range_
    assert problem["given"] == range_[problem["field"]]


@pytest.mark.parametrize(
    "range_",
    [
        pytest.param(
            {"startDate": "2026-01-31", "endDate": "2026-01-31"}, id="a day as a whole"
        ),
        pytest.param({"endDate": "0001-01-01"}, id="the first day of all"),
        pytest.param({"endDate": "0001-01-01T00:30:00Z"}, id="its first half hour"),
    ],
)
async def test_a_range_of_minutes_that_can_be_meant_is_answered(
    api: httpx.AsyncClient, range_: dict[str, str]
) -> None:
    answer = await api.get(COMPLETENESS, params=range_, headers=bearer(ADMIN_TOKEN))
    assert answer.status_code == 200


async def test_only_the_fields_that_are_wanted_are_answered(
    api: httpx.AsyncClient,
) -> None:
    answer = await api.get(
        f"{LOGS}?limit=1&fields=userId,id", headers=bearer(a_token())
    )
    next_ = await api.get(
        f"{LOGS}?limit=1&fields=id&cursor={answer.json()['nextCursor']}",
        headers=bearer(a_token()),
    )

    assert list(answer.json()["items"][0]) == ["userId", "id"]
    assert numbers(next_) == [2]


async def test_rows_can_be_chosen_by_status_and_sorted(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.usage.rows += [a_row(5, status=404), a_row(6, status=502)]
    failed = await api.get(f"{LOGS}?status=4xx", headers=bearer(a_token()))
    oldest = await api.get(f"{LOGS}?sort=createdAt", headers=bearer(a_token()))

    assert numbers(failed) == [5]
    assert numbers(oldest) == [1, 2, 4, 5, 6]


async def test_aggregate_answers_the_totals_of_the_same_filter(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.usage.rows = [
        a_row(1, tokens=1, credits=2),
        a_row(2, tokens=10, credits=20, status=500),
        a_row(3, tokens=100, credits=200, service="claude"),
        a_row(4, tokens=1000, credits=2000, user_id="u-2"),
    ]
    answer = await api.get(
        f"{LOGS}?aggregate=true&limit=1&service=openai", headers=bearer(a_token())
    )
    totals = answer.json()["totals"]

    assert numbers(answer) == [2]
    assert (totals["requests"], totals["errors"]) == (2, 1)
    assert (totals["tokens"], totals["credits"]) == (11, 22)
    assert totals["adjustedCredits"] == 0


async def test_a_users_logs_have_a_path_of_their_own(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.usage.rows.append(a_row(5, user_id="a/b c"))
    own = await api.get("/api/usage/users/u-1/logs", headers=bearer(a_token()))
    by_admin = await api.get(
        "/api/usage/users/a%2Fb%20c/logs", headers=bearer(ADMIN_TOKEN)
    )
    twice = await api.get(
        "/api/usage/users/u-1/logs?userId=u-1", headers=bearer(a_token())
    )

    assert numbers(own) == [4, 2, 1]
    assert numbers(by_admin) == [5]
    assert twice.status_code == 422


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


async def test_a_start_after_the_end_is_named(api: httpx.AsyncClient) -> None:
    answer = await api.get(
        f"{LOGS}?startDate=2026-02-01&endDate=2026-01-01", headers=bearer(a_token())
    )
    (problem,) = answer.json()["errors"]

    assert answer.status_code == 422
    assert (problem["field"], problem["given"]) == ("startDate", "2026-02-01")
