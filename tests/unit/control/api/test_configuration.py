"""Routes, services and blocked networks are put, read and refused."""

from typing import Any

import httpx
import pytest

from tests.builders_control import Parts
from tests.unit.control.api.client import CONFIG, ROUTE


async def test_a_route_is_put_read_listed_and_deleted(api: httpx.AsyncClient) -> None:
    put = await api.put(f"{CONFIG}/routes/a", json=ROUTE)
    read = await api.get(f"{CONFIG}/routes/a")
    listed = await api.get(f"{CONFIG}/routes")
    gone = await api.delete(f"{CONFIG}/routes/a")
    again = await api.get(f"{CONFIG}/routes/a")

    assert put.status_code == 202  # no Envoy is connected
    assert put.json()["revision"] == 2
    assert put.json()["route"] == read.json()
    assert [one["id"] for one in listed.json()["items"]] == ["first", "a"]
    assert gone.json()["deleted"] == "a"
    assert (again.status_code, again.json()["code"]) == (404, "NOT_FOUND")


async def test_a_route_is_replaced_in_its_place(api: httpx.AsyncClient) -> None:
    await api.put(f"{CONFIG}/routes/a", json=ROUTE)
    await api.put(f"{CONFIG}/routes/first", json={"path": "/b", "service": "core"})
    listed = await api.get(f"{CONFIG}/routes")

    assert [one["path"] for one in listed.json()["items"]] == ["/b", "/a"]


async def test_a_service_is_put_read_listed_and_deleted(api: httpx.AsyncClient) -> None:
    put = await api.put(f"{CONFIG}/services/s", json={"instances": ["a.internal:1"]})
    read = await api.get(f"{CONFIG}/services/s")
    listed = await api.get(f"{CONFIG}/services")
    gone = await api.delete(f"{CONFIG}/services/s")

    assert put.json()["service"] == read.json()
    assert [one["id"] for one in listed.json()["items"]] == ["core", "s"]
    assert gone.json()["deleted"] == "s"
    assert (await api.get(f"{CONFIG}/services/s")).status_code == 404


async def test_a_service_in_use_stays(api: httpx.AsyncClient) -> None:
    answer = await api.delete(f"{CONFIG}/services/core")

    assert answer.status_code == 409
    assert "first" in answer.json()["message"]


@pytest.mark.parametrize("kind", ["routes", "services"])
async def test_what_is_not_there_can_not_be_deleted(
    api: httpx.AsyncClient, kind: str
) -> None:
    assert (await api.delete(f"{CONFIG}/{kind}/none")).status_code == 404


async def test_the_configuration_in_force_is_shown_with_its_revision(
    api: httpx.AsyncClient,
) -> None:
    answer = (await api.get(f"{CONFIG}/config")).json()

    assert (answer["revision"], answer["author"]) == (1, "file")
    assert answer["config"]["version"] == 1


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({**ROUTE, "auth": "maybe", "timeout": 3}, {"auth", "timeout"}),
        ({**ROUTE, "id": "b"}, {"id"}),
        ({**ROUTE, "service": "nope"}, {"routes[1]"}),
        ({"service": "core"}, {"document"}),
    ],
)
async def test_a_bad_route_is_answered_with_every_field(
    api: httpx.AsyncClient, body: dict[str, Any], fields: set[str]
) -> None:
    answer = await api.put(f"{CONFIG}/routes/a", json=body)

    assert answer.status_code == 422
    assert answer.json()["code"] == "VALIDATION_FAILED"
    assert {one["field"] for one in answer.json()["errors"]} == fields


async def test_what_was_given_is_said_back(api: httpx.AsyncClient) -> None:
    answer = await api.put(f"{CONFIG}/routes/a", json={**ROUTE, "auth": "maybe"})

    assert answer.json()["errors"][0]["given"] == "maybe"


async def test_envoys_reason_reaches_the_operator(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.verdict.refusal = "missing ): ("
    answer = await api.put(f"{CONFIG}/routes/a", json=ROUTE)

    assert answer.status_code == 422
    assert answer.json()["code"] == "CONFIG_REJECTED"
    assert "missing ): (" in answer.json()["message"]


async def test_without_the_database_changes_are_503_and_reading_goes_on(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.store.is_available = False
    put = await api.put(f"{CONFIG}/routes/a", json=ROUTE)
    read = await api.get(f"{CONFIG}/routes")

    assert (put.status_code, put.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
    assert read.status_code == 200


async def test_blocked_networks_are_put_and_read(api: httpx.AsyncClient) -> None:
    body = {"networks": ["10.0.0.0/8", "::ffff:192.0.2.1"]}
    put = await api.put(f"{CONFIG}/blocked-networks", json=body)
    read = await api.get(f"{CONFIG}/blocked-networks")
    config = (await api.get(f"{CONFIG}/config")).json()["config"]

    assert put.status_code == 202
    assert read.json() == {"networks": ["10.0.0.0/8", "192.0.2.1/32"]}
    assert config["edge"]["blocked_networks"] == read.json()["networks"]


@pytest.mark.parametrize(
    "body", [{}, {"networks": "10.0.0.0/8"}, {"networks": ["x"]}, {"other": []}]
)
async def test_blocked_networks_that_are_none_are_refused(
    api: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    answer = await api.put(f"{CONFIG}/blocked-networks", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_FAILED")
