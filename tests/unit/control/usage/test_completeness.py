"""How complete the ledger is, in each answer and by minute."""

from datetime import timedelta

import httpx
import pytest

from control.completeness import Minute
from tests.builders import a_token
from tests.builders_control import ADMIN_TOKEN, Parts
from tests.unit.control.usage.ledger import LOGS, START, a_mark, bearer

COMPLETENESS = "/api/usage/completeness"


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
