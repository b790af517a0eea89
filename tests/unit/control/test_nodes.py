"""A node that died is closed through the API: what is asked, refused and answered."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from control.api import create_app
from control.completeness import Watermark
from tests.builders import NOW, a_token
from tests.builders_control import ADMIN_TOKEN, Parts, a_config

AT = datetime.fromtimestamp(NOW, UTC)
CLOSED = "/control/v1/nodes/gateway-2/closed"
WHY = {"author": "ada", "reason": "its machine is gone"}
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}


def a_mark(node: str, silent_s: int, **changes: Any) -> Watermark:
    heard = AT - timedelta(seconds=silent_s)
    given = {
        "complete_through": heard - timedelta(seconds=1),
        "pending": 3,
        "is_closed": False,
        **changes,
    }
    return Watermark(node=node, basis="file", updated_at=heard, **given)


@pytest.fixture
def parts() -> Parts:
    """Two nodes, of which one has died."""
    parts = Parts()
    parts.usage.marks = [a_mark("gateway-1", 1), a_mark("gateway-2", 3600)]
    return parts


@pytest.fixture
async def api(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    await parts.changes.start(a_config())
    transport = httpx.ASGITransport(create_app(parts.deps()))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://c", headers=ADMIN
    ) as client:
        yield client


async def completeness(api: httpx.AsyncClient) -> dict[str, Any]:
    answer = await api.get("/api/usage/completeness")
    body: dict[str, Any] = answer.json()
    return body


async def test_completeness_waits_for_a_dead_node_and_says_how_old_its_claim_is(
    api: httpx.AsyncClient,
) -> None:
    body = await completeness(api)

    assert body["completeThrough"] == body["nodes"][1]["completeThrough"]
    assert [
        (one["node"], one["ageSeconds"], one["silentSeconds"]) for one in body["nodes"]
    ] == [("gateway-1", 2, 1), ("gateway-2", 3601, 3600)]


async def test_completeness_waits_no_more_for_a_node_that_was_closed(
    api: httpx.AsyncClient,
) -> None:
    before = await completeness(api)
    answer = await api.put(CLOSED, json=WHY)
    after = await completeness(api)

    assert answer.status_code == 200
    closed, (alive, dead) = answer.json(), after["nodes"]
    assert closed["node"] == dead
    assert closed["completeThrough"] == after["completeThrough"]
    assert after["completeThrough"] == alive["completeThrough"]
    # It is closed, and does not claim to be complete.
    assert dead["isClosed"]
    assert dead["closedByHandAt"] == AT.isoformat().replace("+00:00", "Z")
    assert dead["pending"] == 3
    assert dead["completeThrough"] == before["nodes"][1]["completeThrough"]


async def test_the_answer_says_which_requests_may_have_no_row(
    api: httpx.AsyncClient,
) -> None:
    body = (await api.put(CLOSED, json=WHY)).json()

    since = body["node"]["completeThrough"]
    assert f"ended after {since} may have no row (3 were known" in body["meaning"]


async def test_of_a_node_that_closed_itself_nothing_is_said_to_be_missing(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.usage.marks = [a_mark("gateway-2", 1, is_closed=True, pending=0)]
    answer = await api.put(CLOSED, json=WHY)

    assert answer.status_code == 200
    assert answer.json()["node"]["closedByHandAt"] is None
    assert "nothing of it is missing" in answer.json()["meaning"]


async def test_a_node_that_is_alive_is_refused_with_the_remedy(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    answer = await api.put("/control/v1/nodes/gateway-1/closed", json=WHY)
    body = await completeness(api)

    assert (answer.status_code, answer.json()["code"]) == (409, "CONFLICT")
    said = answer.json()["message"]
    assert "gateway-1 is alive: it was heard 1 s ago" in said
    assert "nothing was heard of it for 60 s" in said
    assert not body["nodes"][0]["isClosed"]
    assert parts.audit.kept == []


async def test_a_silent_node_whose_envoy_is_connected_is_alive(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    with parts.snapshots.connection("gateway-2"):
        refused = await api.put(CLOSED, json=WHY)
        is_closed = any(mark.is_closed for mark in parts.usage.marks)
    closed = await api.put(CLOSED, json=WHY)

    assert (refused.status_code, refused.json()["code"]) == (409, "CONFLICT")
    assert "its Envoy is connected" in refused.json()["message"]
    assert not is_closed
    assert closed.status_code == 200
    assert len(parts.audit.kept) == 1


async def test_a_node_that_nobody_knows_is_nowhere(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    answer = await api.put("/control/v1/nodes/gateway-3/closed", json=WHY)

    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert "/api/usage/completeness" in answer.json()["message"]
    assert parts.audit.kept == []


@pytest.mark.parametrize(
    ("token", "actor"), [(ADMIN_TOKEN, None), (a_token(sub="a-1", role="admin"), "a-1")]
)
async def test_the_audit_log_has_who_closed_it_and_why(
    api: httpx.AsyncClient, token: str, actor: str | None
) -> None:
    await api.put(CLOSED, json=WHY, headers={"authorization": f"Bearer {token}"})
    answer = await api.get("/control/v1/audit?action=usage.node.closed")

    (entry,) = answer.json()["items"]
    assert (entry["actor"], entry["role"], entry["subject"]) == (actor, "admin", None)
    assert entry["details"].items() >= {**WHY, "node": "gateway-2"}.items()


@pytest.mark.parametrize("role", ["user", "manager"])
async def test_only_admins_close_nodes(
    api: httpx.AsyncClient, parts: Parts, role: str
) -> None:
    token = {"authorization": f"Bearer {a_token(role=role)}"}
    answer = await api.put(CLOSED, json=WHY, headers=token)
    nobody = await api.put(CLOSED, json=WHY, headers={"authorization": ""})

    assert (answer.status_code, nobody.status_code) == (403, 401)
    assert not any(mark.is_closed for mark in parts.usage.marks)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"author": "ada"}, "reason", id="no reason"),
        pytest.param({**WHY, "reason": "  "}, "reason", id="an empty reason"),
        pytest.param({"reason": "gone"}, "author", id="nobody"),
        pytest.param({**WHY, "author": "a\0"}, "author", id="what no table keeps"),
        pytest.param({**WHY, "reason": "x" * 257}, "reason", id="a novel"),
        pytest.param({**WHY, "reason": 7}, "reason", id="a number"),
        pytest.param({**WHY, "force": True}, "force", id="by force"),
    ],
)
async def test_without_a_reason_and_an_author_nothing_is_closed(
    api: httpx.AsyncClient, parts: Parts, body: Mapping[str, object], field: str
) -> None:
    answer = await api.put(CLOSED, json=body)

    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["errors"]] == [field]
    assert not any(mark.is_closed for mark in parts.usage.marks)
    assert parts.audit.kept == []


async def test_a_name_that_no_node_can_have_is_refused(api: httpx.AsyncClient) -> None:
    answer = await api.put("/control/v1/nodes/%00/closed", json=WHY)

    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["errors"]] == ["node"]


async def test_any_name_of_a_node_fits_into_the_path(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.usage.marks = [a_mark("zone/ä b", 3600)]
    answer = await api.put("/control/v1/nodes/zone%2F%C3%A4%20b/closed", json=WHY)

    assert answer.status_code == 200
    assert answer.json()["node"]["node"] == "zone/ä b"
