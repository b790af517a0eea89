"""Pages of rows, chosen, sorted and summed up."""

import httpx

from tests.builders import a_token
from tests.builders_control import ADMIN_TOKEN, Parts
from tests.unit.control.usage.ledger import LOGS, a_row, bearer, numbers


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
