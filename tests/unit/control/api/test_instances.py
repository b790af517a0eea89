"""Instances register themselves."""

from typing import Any

import httpx
import pytest

from tests.builders_control import Parts
from tests.unit.control.api.client import CONFIG

INSTANCES = f"{CONFIG}/services/core/instances"


async def test_an_instance_is_registered_listed_and_removed(
    api: httpx.AsyncClient,
) -> None:
    put = await api.put(f"{INSTANCES}/i-1", json={"address": "10.0.0.7:80"})
    listed = await api.get(INSTANCES)
    gone = await api.delete(f"{INSTANCES}/i-1")
    again = await api.delete(f"{INSTANCES}/i-1")

    assert put.json() == {
        "service": "core",
        "instance": "i-1",
        "address": "10.0.0.7:80",
        "ttl_s": 15,
    }
    assert listed.json() == {"declared": ["127.0.0.1:1"], "registered": [put.json()]}
    assert (gone.status_code, again.status_code) == (200, 404)


@pytest.mark.parametrize(
    ("instance", "body"),
    [
        ("i-1", {}),
        ("i-1", {"address": "core.internal:80"}),
        ("i-1", {"address": "10.0.0.7"}),
        ("i-1", {"address": "10.0.0.7:80", "ttl_s": 1}),
        ("i-1", {"address": "10.0.0.7:80", "ttl": 9}),
        ("I 1", {"address": "10.0.0.7:80"}),
    ],
)
async def test_an_instance_that_can_not_be_is_refused(
    api: httpx.AsyncClient, instance: str, body: dict[str, Any]
) -> None:
    answer = await api.put(f"{INSTANCES}/{instance}", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_FAILED")


async def test_nobody_registers_for_an_unknown_service_or_beside_dns(
    api: httpx.AsyncClient,
) -> None:
    body = {"address": "10.0.0.7:80"}
    await api.put(f"{CONFIG}/services/named", json={"instances": ["core.internal:80"]})
    unknown = await api.put(f"{CONFIG}/services/no/instances/a", json=body)
    named = await api.put(f"{CONFIG}/services/named/instances/a", json=body)
    listed = await api.get(f"{CONFIG}/services/no/instances")

    assert (unknown.status_code, listed.status_code) == (404, 404)
    assert (named.status_code, named.json()["code"]) == (409, "CONFLICT")


async def test_without_redis_nobody_registers(
    parts: Parts, api: httpx.AsyncClient
) -> None:
    parts.instances.is_available = False
    answer = await api.put(f"{INSTANCES}/a", json={"address": "10.0.0.7:80"})

    assert (answer.status_code, answer.json()["code"]) == (503, "REDIS_UNAVAILABLE")
