"""The document at /openapi.json says of every operation what it takes and answers."""

import json
import re
from typing import Any

import httpx
import pytest

from control.api import create_app
from tests.builders_control import Parts


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Parts().deps()).openapi()


async def test_the_document_is_served_and_no_page_that_loads_scripts() -> None:
    transport = httpx.ASGITransport(create_app(Parts().deps()))
    async with httpx.AsyncClient(transport=transport, base_url="http://c") as api:
        answer = await api.get("/openapi.json")
        pages = [(await api.get(path)).status_code for path in ("/docs", "/redoc")]

    assert answer.status_code == 200
    assert answer.json()["openapi"].startswith("3.1")
    assert pages == [404, 404]


def test_every_reference_leads_to_a_schema(document: dict[str, Any]) -> None:
    found = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)))
    known = {f"#/components/schemas/{one}" for one in document["components"]["schemas"]}

    assert found - known == set()


def test_every_operation_tells_of_errors_in_their_one_shape(
    document: dict[str, Any],
) -> None:
    error = {"$ref": "#/components/schemas/ErrorAnswer"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status in ("401", "422", "503"):
                content = operation["responses"][status]["content"]
                schema = content["application/json"]["schema"]
                assert schema == error, (path, method, status)


def test_every_operation_but_the_probes_takes_a_token(
    document: dict[str, Any],
) -> None:
    open_ = {
        path
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if operation.get("security") == []
    }

    assert open_ == {"/health", "/health/ready", "/metrics"}
    assert document["security"] == [{"bearer": []}]


def test_a_body_is_told_with_an_example(document: dict[str, Any]) -> None:
    put = document["paths"]["/control/v1/alerts/{alert_id}"]["put"]
    content = put["requestBody"]["content"]["application/json"]

    assert (
        content["example"]["metric"]
        in (content["schema"]["properties"]["metric"]["enum"])
    )
