"""The table of docs/usage-api.md, cell by cell: who may ask what, and what is noted."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from control.api import create_app
from control.audit import Action
from control.export import ExportQuery
from control.exports import Exports
from control.usage import COLUMNS
from tests.builders import a_token
from tests.builders_control import ADMIN_TOKEN, Parts, a_config

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
CALLERS = {
    "nobody": None,
    "user": a_token(),
    "manager": a_token(sub="m-1", role="manager"),
    "admin": a_token(sub="a-1", role="admin"),
    "token": ADMIN_TOKEN,
}
#: What each of them gets, in the order of CALLERS.
_OWN = (401, 200, 200, 200, 200)
_LISTED = (401, 403, 200, 200, 200)
_OTHER = (401, 403, 403, 200, 200)
_ADMIN = (401, 403, 403, 200, 200)
#: Of the machine, not of the platform: no token of a user will do.
_OPERATOR = (401, 401, 401, 401, 200)
#: u-1 asks, m-1 sees u-3 by the configuration, and nobody has ever heard of u-9.
ACCESS = {
    "/api/usage/logs": _OWN,
    "/api/usage/logs?aggregate=true": _OWN,
    "/api/usage/logs?userId=u-2": _OTHER,
    "/api/usage/logs?userId=u-3": _LISTED,
    "/api/usage/logs?userId=u-9": _OTHER,
    "/api/usage/users/u-2/logs": _OTHER,
    "/api/usage/users/u-3/logs": _LISTED,
    "/api/usage/users/u-9/logs": _OTHER,
    "/api/usage/export": _OWN,
    "/api/usage/export?userId=u-2": _OTHER,
    "/api/usage/export?userId=u-3&format=json": _LISTED,
    "/api/usage/export?userId=u-9": _OTHER,
    "/api/usage/export/manifest": _OWN,
    "/api/usage/export/manifest?userId=u-2": _OTHER,
    "/api/usage/export/manifest?userId=u-3": _LISTED,
    "/api/usage/completeness": _ADMIN,
    "/control/v1/audit": _ADMIN,
    "/api/usage/me": (401, 200, 200, 200, 403),  # the admin token is no user's
    "/api/usage/summary": _OWN,
    "/api/usage/summary?userId=u-2": _OTHER,
    "/api/usage/summary?userId=u-3": _LISTED,
    "/api/usage/summary?userId=u-9": _OTHER,
    "/api/usage/analytics": _OWN,
    "/api/usage/analytics?userId=u-2": _OTHER,
    "/api/usage/analytics?userId=u-3": _LISTED,
    "/api/usage/analytics?userId=u-9": _OTHER,
    "/control/v1/alerts": _OPERATOR,
    # Who may ask is told that there is no such request.
    "/control/v1/explain/00000000-0000-0000-0000-000000000001": (*_OPERATOR[:4], 404),
}
CELLS = [
    pytest.param(path, caller, status, id=f"{caller} {path}")
    for path, statuses in ACCESS.items()
    for caller, status in zip(CALLERS, statuses, strict=True)
]


def a_row(number: int, user: str) -> dict[str, Any]:
    return {
        **dict.fromkeys(COLUMNS),
        "id": UUID(int=number),
        "user_id": user,
        "metadata": {},
        "created_at": START + timedelta(seconds=number),
        "status": 200,
        "tokens": number,
        "credits": 1,
    }


def with_rows() -> Parts:
    parts = Parts()
    users = ("u-1", "u-2", "u-3", "m-1", "a-1")
    parts.usage.rows = [a_row(n, user) for n, user in enumerate(users)]
    return parts


async def an_app(parts: Parts) -> FastAPI:
    usage = {"manager_sees": {"m-1": ["u-3"], "u-1": ["u-2"]}}
    config = a_config()
    changed = type(config).model_validate({**config.document(), "usage": usage})
    await parts.changes.start(changed)
    return create_app(parts.deps())


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://c")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def read_app() -> FastAPI:
    """One for all cells of the table: most of their time is making it."""
    return await an_app(with_rows())


@pytest.fixture
def parts() -> Parts:
    return with_rows()


@pytest.fixture
async def api(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(await an_app(parts)) as client:
        yield client


def headers(caller: str) -> dict[str, str]:
    token = CALLERS[caller]
    return {} if token is None else {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(("path", "caller", "status"), CELLS)
async def test_each_caller_gets_what_the_table_says(
    read_app: FastAPI, path: str, caller: str, status: int
) -> None:
    async with client_of(read_app) as api:
        answer = await api.get(path, headers=headers(caller))

    assert answer.status_code == status


@pytest.mark.parametrize(("caller", "status"), list(zip(CALLERS, _ADMIN, strict=True)))
async def test_only_admins_destroy_a_pseudonym(
    api: httpx.AsyncClient, caller: str, status: int
) -> None:
    answer = await api.delete(
        "/control/v1/users/u-2/pseudonym", headers=headers(caller)
    )

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("caller", "users"),
    [
        ("user", {"u-1"}),  # what managers see is not for a user of that name
        ("manager", {"m-1", "u-3"}),
        ("admin", {"u-1", "u-2", "u-3", "m-1", "a-1"}),
        ("token", {"u-1", "u-2", "u-3", "m-1", "a-1"}),
    ],
)
async def test_without_a_user_each_gets_all_that_they_see(
    api: httpx.AsyncClient, caller: str, users: set[str]
) -> None:
    logs = await api.get("/api/usage/logs", headers=headers(caller))
    file = await api.get("/api/usage/export?format=json", headers=headers(caller))

    assert {one["userId"] for one in logs.json()["items"]} == users
    assert {one["userId"] for one in file.json()["items"]} == users
    assert file.json()["totals"]["rows"] == len(users)


async def test_somebody_and_nobody_are_forbidden_in_the_same_words(
    api: httpx.AsyncClient,
) -> None:
    for path in ("/api/usage/logs", "/api/usage/export"):
        both = [
            await api.get(f"{path}?userId={user}", headers=headers("user"))
            for user in ("u-2", "u-9")
        ]
        said = [{**one.json(), "requestId": ""} for one in both]
        assert said[0] == said[1]


async def test_reads_of_others_and_exports_are_noted_and_no_other(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    for caller, path in (
        ("user", "/api/usage/logs"),
        ("user", "/api/usage/users/u-1/logs"),
        ("manager", "/api/usage/logs?userId=m-1"),
        ("user", "/api/usage/logs?userId=u-2"),
        ("nobody", "/api/usage/export"),
    ):
        await api.get(path, headers=headers(caller))
    assert parts.audit.kept == []

    for caller, path in (
        ("manager", "/api/usage/logs?limit=1"),
        ("manager", "/api/usage/users/u-3/logs"),
        ("admin", "/api/usage/logs?userId=u-9"),
        ("token", "/api/usage/logs"),
        ("user", "/api/usage/export/manifest"),
    ):
        await api.get(path, headers=headers(caller))
    noted = [
        (one.entry.actor, one.entry.action, one.entry.subject)
        for one in parts.audit.kept
    ]

    assert noted == [
        ("m-1", Action.LOGS, None),
        ("m-1", Action.LOGS, "u-3"),
        ("a-1", Action.LOGS, "u-9"),
        (None, Action.LOGS, None),
        ("u-1", Action.EXPORT, "u-1"),
    ]
    assert parts.audit.kept[0].entry.details == {"limit": "1"}


@pytest.mark.parametrize("path", ["/api/usage/logs", "/api/usage/export"])
async def test_what_can_not_be_noted_is_not_answered(
    api: httpx.AsyncClient, parts: Parts, path: str
) -> None:
    parts.audit.is_available = False
    answer = await api.get(path, headers=headers("admin"))

    assert (answer.status_code, answer.json()["code"]) == (503, "DATABASE_UNAVAILABLE")


async def test_the_audit_log_is_read_page_by_page(api: httpx.AsyncClient) -> None:
    for user in ("u-1", "u-2", "u-3"):
        await api.get(f"/api/usage/logs?userId={user}", headers=headers("admin"))
    query = "/control/v1/audit?limit=2&actor=a-1&action=usage.logs"
    first = await api.get(query, headers=headers("token"))
    cursor = first.json()["nextCursor"]
    second = await api.get(f"{query}&cursor={cursor}", headers=headers("token"))
    bad = await api.get(
        "/control/v1/audit?action=x&cursor=-1&limit=0&who=me", headers=headers("token")
    )
    large = await api.get(f"/control/v1/audit?cursor={2**63}", headers=headers("token"))
    subjects = [
        one["subject"] for page in (first, second) for one in page.json()["items"]
    ]

    assert subjects == ["u-3", "u-2", "u-1"]
    assert second.json()["nextCursor"] is None
    assert large.status_code == 422
    assert {one["field"] for one in bad.json()["errors"]} == {
        *("action", "cursor", "limit", "who"),
    }


async def test_too_many_exports_are_refused_and_their_places_come_back(
    parts: Parts,
) -> None:
    await parts.changes.start(a_config())
    deps = parts.deps()
    running = []
    for _ in range(2):
        query = await deps.exports.fixed(ExportQuery())
        stream = deps.exports.stream(query, "u-1")
        await anext(stream)
        running.append(stream)
    async with client_of(create_app(deps)) as client:
        refused = await client.get("/api/usage/export", headers=headers("user"))
        another = await client.get("/api/usage/export", headers=headers("manager"))
        for stream in running:
            await stream.aclose()
        again = await client.get("/api/usage/export", headers=headers("user"))

    assert isinstance(deps.exports, Exports)
    assert not deps.exports._running  # whoever has ever exported is not kept
    assert (refused.status_code, refused.json()["code"]) == (429, "TOO_MANY_EXPORTS")
    assert (another.status_code, again.status_code) == (200, 200)


def test_every_path_of_the_usage_api_is_in_a_table() -> None:
    paths = create_app(Parts().deps()).openapi()["paths"]
    tested = {path.partition("?")[0] for path in ACCESS}
    missing = {
        path
        for path in paths
        if path.startswith("/api/usage")
        and not any(
            re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), one) for one in tested
        )
    }

    assert missing == set()
