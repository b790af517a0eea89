"""The document at /openapi.json says of every operation what it takes and answers."""

import json
import re
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from control.api import create_app
from control.limits import Limits
from control.model import GatewayConfig, Route
from control.services import Registering, Service
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


def test_every_operation_says_in_words_what_it_does(document: dict[str, Any]) -> None:
    silent = [
        (method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if not operation.get("description")
    ]

    assert silent == []


def test_how_much_and_in_which_order_says_what_is_taken_without_it(
    document: dict[str, Any],
) -> None:
    silent = [
        (path, one["name"])
        for path, operations in document["paths"].items()
        for operation in operations.values()
        for one in operation.get("parameters", ())
        if one["name"] in {"limit", "offset", "recent", "sort", "interval"}
        and "default" not in one["schema"]
    ]

    assert silent == []


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


def test_a_body_is_told_with_an_example_that_is_one(document: dict[str, Any]) -> None:
    """Of every operation that takes one, and they are all that change something."""
    found = {
        (method, path): operation["requestBody"]["content"]["application/json"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in ("put", "post")
    }

    assert len(found) == 12
    for content in found.values():
        schema, example = content["schema"], content["example"]
        assert set(schema.get("required", ())) <= set(example)
        assert set(example) <= set(schema["properties"])
        assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/control/v1/routes/{route_id}", Route),
        ("/control/v1/services/{name}", Service),
        ("/control/v1/limits", Limits),
        ("/control/v1/config", GatewayConfig),
        ("/control/v1/services/{service}/instances/{instance}", Registering),
    ],
)
def test_an_example_of_configuration_is_taken(
    document: dict[str, Any], path: str, model: type[BaseModel]
) -> None:
    body = document["paths"][path]["put"]["requestBody"]

    model.model_validate(body["content"]["application/json"]["example"])
