"""Sums over HTTP: who sees them, what is written down, when they are kept."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from control.api import create_app
from control.audit import Action
from control.completeness import Watermark
from control.routers.described_analytics import Analytics
from control.routers.described_totals import Summary
from control.usage_totals import RowsArchived
from tests.builders import NOW, a_token
from tests.builders_control import ADMIN_TOKEN, Parts, a_config

AT = datetime.fromtimestamp(NOW, UTC)
PATHS = ("/api/usage/summary", "/api/usage/analytics")
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}


def a_row(user_id: str, hours_ago: int, **changes: Any) -> Mapping[str, Any]:
    row: dict[str, Any] = {"id": None, "user_id": user_id, "service": "openai"}
    row |= {"model": "gpt", "route": "mcp", "status": 200, "tokens": 10, "credits": 2}
    row |= {"created_at": AT - timedelta(hours=hours_ago), "duration_ms": 30}
    return {**row, **changes}


@pytest.fixture
async def parts() -> Parts:
    parts = Parts()
    await parts.changes.start(a_config({"id": "first", "path": "/first"}))
    parts.totals.rows = [
        *(a_row("u-1", ago) for ago in range(40)),
        *(a_row("u-2", ago, status=500, service="core") for ago in range(9)),
    ]
    parts.totals.marks = [
        Watermark(
            node="n",
            complete_through=AT,
            basis="file",
            pending=0,
            is_closed=False,
            updated_at=AT,
        )
    ]
    return parts


@pytest.fixture
async def api(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(parts.deps()))
    async with httpx.AsyncClient(transport=transport, base_url="http://c") as client:
        yield client


def of(user: str, role: str = "user") -> dict[str, str]:
    return {"authorization": f"Bearer {a_token(sub=user, role=role)}"}


@pytest.mark.parametrize("path", PATHS)
async def test_a_user_sees_the_own_sums_only(
    api: httpx.AsyncClient, parts: Parts, path: str
) -> None:
    own = (await api.get(path, headers=of("u-2"))).json()
    asked = await api.get(path, params={"userId": "u-2"}, headers=of("u-2"))
    others = await api.get(path, params={"userId": "u-1"}, headers=of("u-2"))
    nobodys = await api.get(path, params={"userId": "none"}, headers=of("u-2"))

    assert own["totals"]["requests"] == own["totals"]["errors"] == 9
    assert asked.json()["totals"] == own["totals"]
    assert (others.status_code, nobodys.status_code) == (403, 403)
    assert others.json()["message"] == nobodys.json()["message"]
    assert parts.audit.kept == []


@pytest.mark.parametrize(
    ("path", "action"),
    [(PATHS[0], Action.SUMMARY), (PATHS[1], Action.ANALYTICS)],
)
async def test_an_admin_sees_all_and_that_is_written_down(
    api: httpx.AsyncClient, parts: Parts, path: str, action: Action
) -> None:
    found = (await api.get(path, headers=of("boss", "admin"))).json()

    assert found["totals"]["requests"] == 49
    assert [(one.entry.actor, one.entry.action) for one in parts.audit.kept] == [
        ("boss", action)
    ]


@pytest.mark.parametrize("path", PATHS)
async def test_an_answer_is_kept_for_as_long_as_it_holds(
    api: httpx.AsyncClient, parts: Parts, path: str
) -> None:
    first = (await api.get(path, headers=ADMIN)).json()
    second = (await api.get(path, headers=ADMIN)).json()
    own = (await api.get(path, headers=of("u-1"))).json()
    parts.totals.rows.append(a_row("u-3", 1))
    third = (await api.get(path, headers=ADMIN)).json()

    assert not first.pop("isFromCache")
    assert second.pop("isFromCache")
    assert first == second
    assert own["totals"]["requests"] == 40
    assert not third["isFromCache"]
    assert third["totals"]["requests"] == 50


@pytest.mark.parametrize("path", PATHS)
async def test_every_answer_says_how_complete_it_is(
    api: httpx.AsyncClient, parts: Parts, path: str
) -> None:
    known = (await api.get(path, headers=ADMIN)).json()
    parts.totals.marks = []
    unknown = (await api.get(path, headers=ADMIN)).json()

    assert known["completeThrough"] == AT.isoformat().replace("+00:00", "Z")
    assert unknown["completeThrough"] is None


@pytest.mark.parametrize("path", PATHS)
async def test_an_unknown_or_repeated_parameter_is_named(
    api: httpx.AsyncClient, path: str
) -> None:
    unknown = await api.get(f"{path}?colour=red", headers=ADMIN)
    repeated = await api.get(f"{path}?service=a&service=b", headers=ADMIN)
    bad = await api.get(f"{path}?timeZone=Mars&limit=0", headers=ADMIN)

    assert {one.status_code for one in (unknown, repeated, bad)} == {422}
    assert unknown.json()["errors"][0]["field"] == "colour"
    assert repeated.json()["errors"][0]["field"] == "service"
    assert [one["field"] for one in bad.json()["errors"]] == ["timeZone", "limit"]
    assert bad.json()["errors"][0]["given"] == "Mars"


@pytest.mark.parametrize("path", PATHS)
async def test_without_the_database_the_answer_is_unavailable(
    api: httpx.AsyncClient, parts: Parts, path: str
) -> None:
    parts.totals.is_available = False

    answer = await api.get(path, headers=ADMIN)

    assert (answer.status_code, answer.json()["code"]) == (503, "DATABASE_UNAVAILABLE")


@pytest.mark.parametrize("path", PATHS)
async def test_what_is_archived_and_can_not_be_split_is_refused(
    api: httpx.AsyncClient,
    parts: Parts,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def cells(*_: object) -> None:
        raise RowsArchived(AT.date())

    monkeypatch.setattr(type(parts.totals), "cells", cells)

    answer = await api.get(path, headers=ADMIN)

    assert answer.status_code == 422
    assert "archived" in answer.json()["message"]


async def test_groups_have_every_period_and_the_rest_is_told(
    api: httpx.AsyncClient,
) -> None:
    asked = {"groupBy": "userId,day", "limit": "1", "sort": "tokens"}

    found = (await api.get(PATHS[0], params=asked, headers=ADMIN)).json()

    (item,), other = found["items"], found["other"]
    assert item["userId"] == "u-1"
    assert other["errors"] == 9
    for name in ("requests", "tokens", "credits"):
        assert item[name] + other[name] == found["totals"][name]
        assert found["totals"][name] == sum(one[name] for one in found["periods"])
        assert item[name] == sum(one[name] for one in item["periods"])
    assert len(found["periods"]) == len(item["periods"]) == len(other["periods"])
    assert found["periods"][3]["requests"] == 0
    assert found["periods"][3]["errorRate"] is None


@pytest.mark.parametrize(
    ("path", "model", "asked"),
    [
        (PATHS[0], Summary, {}),
        (PATHS[0], Summary, {"groupBy": "userId,model,statusClass,week"}),
        (PATHS[1], Analytics, {}),
        (PATHS[1], Analytics, {"endDate": "1999-01-01"}),
    ],
)
async def test_answers_are_as_described(
    api: httpx.AsyncClient, path: str, model: Any, asked: dict[str, str]
) -> None:
    found = (await api.get(path, params=asked, headers=ADMIN)).json()

    read = model.model_validate(found, strict=True)

    assert read.model_dump(by_alias=True, exclude_unset=True) == found


@pytest.mark.parametrize("path", PATHS)
async def test_the_examples_are_as_described(path: str) -> None:
    document = create_app(Parts().deps()).openapi()
    answer = document["paths"][path]["get"]["responses"]["200"]
    shown = answer["content"]["application/json"]
    model: Any = {PATHS[0]: Summary, PATHS[1]: Analytics}[path]

    assert shown["schema"]["$ref"].endswith(model.__name__)
    model.model_validate(shown["example"])
