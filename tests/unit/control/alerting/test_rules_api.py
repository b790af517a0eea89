"""Rules are put, read and refused."""

from typing import Any

import httpx
import pytest

from tests.builders import a_token
from tests.unit.control.alerting.bench import ALERTS, URL


async def test_rules_are_put_read_listed_and_deleted(api: httpx.AsyncClient) -> None:
    body = {"metric": "volume", "threshold": 1, "webhook": URL}

    first = await api.put(f"{ALERTS}/a", json=body)
    second = await api.put(f"{ALERTS}/a", json={**body, "threshold": 2})
    listed = await api.get(ALERTS)
    deleted = await api.delete(f"{ALERTS}/a")

    assert (first.status_code, second.status_code) == (201, 200)
    (item,) = listed.json()["items"]
    assert (item["rule"]["id"], item["rule"]["threshold"]) == ("a", 2)
    assert item["state"]["status"] == "inactive"
    assert deleted.json() == {"deleted": "a"}
    assert (await api.get(f"{ALERTS}/a")).status_code == 404
    assert (await api.delete(f"{ALERTS}/a")).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"metric": "volume", "threshold": 1}, "webhook"),
        ({"metric": "x", "threshold": 1, "webhook": URL}, "metric"),
        ({"metric": "volume", "threshold": "?", "webhook": URL}, "threshold"),
        (
            {"metric": "volume", "threshold": 1, "webhook": "https://10.0.0.1/"},
            "webhook",
        ),
        (
            {"metric": "volume", "threshold": 1, "webhook": "https://a..example/"},
            "webhook",
        ),
        ({"id": "b", "metric": "volume", "threshold": 1, "webhook": URL}, "id"),
    ],
)
async def test_a_bad_rule_is_answered_by_field(
    api: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    answer = await api.put(f"{ALERTS}/a", json=body)

    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["errors"]] == [field]


@pytest.mark.parametrize(
    ("changes", "field", "given"),
    [
        pytest.param('"threshold": 1e999', "threshold", "inf", id="no number"),
        pytest.param(
            r'"labels": {"a": "\ud800"}', "labels.a", "\ud800", id="half a character"
        ),
        pytest.param(r'"\ud800": 1', "document", "\ud800", id="of a name"),
        pytest.param(
            r'"where": {"userId": "a\u0000b"}', "where.userId", "a\0b", id="NUL"
        ),
        pytest.param(f'"webhook": "{"x" * 999}"', "webhook", "x" * 256, id="long"),
    ],
)
async def test_what_no_rule_can_hold_is_said_back(
    api: httpx.AsyncClient, changes: str, field: str, given: object
) -> None:
    known = f'"metric": "volume", "threshold": 1, "webhook": "{URL}"'
    answer = await api.put(f"{ALERTS}/a", content=f"{{{known}, {changes}}}")
    (problem,) = answer.json()["errors"]

    assert answer.status_code == 422
    assert (problem["field"], problem["given"]) == (field, given)


async def test_rules_are_the_operators_alone(api: httpx.AsyncClient) -> None:
    headers = {"authorization": f"Bearer {a_token(role='admin')}"}

    for method in ("GET", "PUT", "DELETE"):
        answer = await api.request(method, f"{ALERTS}/a", headers=headers)
        assert answer.status_code == 401
