"""What the document was is kept, shown, and put in force again."""

import httpx
import pytest

from control.store import Status
from tests.builders_control import Parts
from tests.unit.control.api.client import CONFIG, ROUTE


async def routes(api: httpx.AsyncClient) -> list[str]:
    return [one["id"] for one in (await api.get(f"{CONFIG}/routes")).json()["items"]]


async def test_a_change_is_undone_by_going_back_to_the_revision_before(
    api: httpx.AsyncClient,
) -> None:
    await api.delete(f"{CONFIG}/routes/first")
    assert await routes(api) == []
    answer = await api.post(f"{CONFIG}/rollback", json={"revision": 1})

    assert answer.status_code == 202  # no Envoy is connected
    assert answer.json() == {"rolledBackTo": 1, "revision": 3, "acknowledgedBy": []}
    assert await routes(api) == ["first"]


async def test_the_history_is_told_in_pages_from_the_newest_on(
    api: httpx.AsyncClient,
) -> None:
    await api.put(f"{CONFIG}/routes/a", json=ROUTE)
    page = (await api.get(f"{CONFIG}/revisions", params={"limit": 1})).json()
    rest = await api.get(f"{CONFIG}/revisions", params={"before": page["nextBefore"]})
    (newest,) = page["items"]

    assert (newest["revision"], newest["comment"]) == (2, "put route a")
    assert (newest["author"], newest["status"]) == ("admin", "active")
    assert [one["revision"] for one in rest.json()["items"]] == [1]
    assert rest.json()["nextBefore"] is None


async def test_a_revision_is_shown_with_its_document(api: httpx.AsyncClient) -> None:
    await api.delete(f"{CONFIG}/routes/first")
    shown = (await api.get(f"{CONFIG}/revisions/1")).json()

    assert [one["id"] for one in shown["config"]["routes"]] == ["first"]


@pytest.mark.parametrize("number", ["0", "x", "-1", "9" * 30])
async def test_what_is_no_number_of_a_revision_is_refused(
    api: httpx.AsyncClient, number: str
) -> None:
    assert (await api.get(f"{CONFIG}/revisions/{number}")).status_code == 422


@pytest.mark.parametrize(
    "body", [{}, {"revision": "1"}, {"revision": True}, {"revision": 1, "x": 1}]
)
async def test_a_rollback_to_nothing_is_refused(
    api: httpx.AsyncClient, body: dict[str, object]
) -> None:
    answer = await api.post(f"{CONFIG}/rollback", json=body)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "revision"


async def test_nobody_goes_back_to_what_is_not_there(api: httpx.AsyncClient) -> None:
    answer = await api.post(f"{CONFIG}/rollback", json={"revision": 9})

    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


async def test_nobody_goes_back_to_what_was_never_in_force(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    bad = await parts.store.add({"version": 1}, "admin", "")
    await parts.store.settle(bad.rev, Status.REJECTED, "no")
    answer = await api.post(f"{CONFIG}/rollback", json={"revision": bad.rev})

    assert (answer.status_code, answer.json()["code"]) == (409, "CONFLICT")


async def test_a_revision_that_is_refused_by_now_changes_nothing(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    old = await parts.store.add({"version": 1, "a-field-of-earlier": 1}, "admin", "")
    await parts.store.settle(old.rev, Status.ACTIVE)
    await api.put(f"{CONFIG}/routes/a", json=ROUTE)
    answer = await api.post(f"{CONFIG}/rollback", json={"revision": old.rev})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "a-field-of-earlier"
    assert await routes(api) == ["first", "a"]
