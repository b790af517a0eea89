"""The document as a whole is compared, tried and put in force."""

from typing import Any

import httpx
import pytest

from tests.builders_control import Parts
from tests.unit.control.api.client import CONFIG, ROUTE

WANTED: dict[str, Any] = {
    "version": 1,
    "services": {"core": {"instances": ["127.0.0.1:1"]}},
    "routes": [{**ROUTE, "id": "a"}],
    "edge": {"trusted_hops": 1},
}


async def revision(api: httpx.AsyncClient) -> int:
    return int((await api.get(f"{CONFIG}/config")).json()["revision"])


async def test_a_document_is_put_in_force_as_a_whole(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    answer = await api.put(f"{CONFIG}/config", json=WANTED)
    shown = (await api.get(f"{CONFIG}/config")).json()

    assert answer.status_code == 202  # no Envoy is connected
    assert answer.json() == {"revision": 2, "acknowledgedBy": []}
    assert (shown["config"], shown["comment"]) == (WANTED, "put the document")
    assert parts.changes.config.edge.trusted_hops == 1


async def test_what_would_change_is_told_and_nothing_changes(
    api: httpx.AsyncClient,
) -> None:
    answer = await api.post(f"{CONFIG}/config/diff", json=WANTED)
    told = answer.json()

    assert answer.status_code == 200
    assert told["revision"] == await revision(api) == 1
    assert {one["field"] for one in told["changes"]} == {
        *("routes.a", "routes.first", "edge.trusted_hops")
    }
    assert told["changes"][-1] == {
        "field": "edge.trusted_hops",
        "before": 0,
        "after": 1,
    }


async def test_the_document_in_force_would_change_nothing(
    api: httpx.AsyncClient,
) -> None:
    shown = (await api.get(f"{CONFIG}/config")).json()["config"]
    told = (await api.post(f"{CONFIG}/config/diff", json=shown)).json()

    assert told == {"revision": 1, "changes": []}


async def test_a_document_that_was_compared_with_an_earlier_revision_is_refused(
    api: httpx.AsyncClient,
) -> None:
    await api.put(f"{CONFIG}/routes/b", json={"path": "/b", "service": "core"})
    stale = await api.put(f"{CONFIG}/config", params={"revision": 1}, json=WANTED)
    kept = (await api.get(f"{CONFIG}/routes/b")).status_code
    fresh = await api.put(f"{CONFIG}/config", params={"revision": 2}, json=WANTED)

    assert (stale.status_code, stale.json()["code"]) == (409, "CONFLICT")
    assert "revision 2" in stale.json()["message"]
    assert (kept, fresh.json()["revision"]) == (200, 3)


@pytest.mark.parametrize("query", ["revision=x", "revision=0", "dryRun=true"])
async def test_a_parameter_that_is_not_known_changes_nothing(
    api: httpx.AsyncClient, query: str
) -> None:
    answer = await api.put(f"{CONFIG}/config?{query}", json=WANTED)

    assert (answer.status_code, await revision(api)) == (422, 1)


@pytest.mark.parametrize(("method", "path"), [("PUT", ""), ("POST", "/diff")])
async def test_a_bad_document_is_answered_with_every_field(
    api: httpx.AsyncClient, method: str, path: str
) -> None:
    bad = {**WANTED, "edge": {"trusted_hop": 1}, "prices": [{}]}
    answer = await api.request(method, f"{CONFIG}/config{path}", json=bad)

    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_FAILED")
    assert {one["field"] for one in answer.json()["errors"]} >= {"edge.trusted_hop"}
    assert await revision(api) == 1


@pytest.mark.parametrize(("method", "path"), [("PUT", ""), ("POST", "/diff")])
async def test_a_document_that_envoy_refuses_is_answered_with_its_reason(
    api: httpx.AsyncClient, parts: Parts, method: str, path: str
) -> None:
    parts.verdict.refusal = "bad regex"
    answer = await api.request(method, f"{CONFIG}/config{path}", json=WANTED)

    assert (answer.status_code, answer.json()["code"]) == (422, "CONFIG_REJECTED")
    assert "bad regex" in answer.json()["message"]
    assert await revision(api) == 1
