"""What all paths have in common: who may ask, bodies, codes, the request's id."""

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from control.api import create_app
from tests.builders_control import ADMIN_TOKEN, Parts
from tests.unit.control.api.client import CONFIG, a_client, client_of, started


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def closed_app() -> FastAPI:
    """One for all requests that get nowhere: most of their time is making it."""
    return create_app((await started()).deps())


PATHS = [
    ("GET", f"{CONFIG}/config"),
    ("GET", f"{CONFIG}/routes"),
    ("GET", f"{CONFIG}/routes/x"),
    ("PUT", f"{CONFIG}/routes/x"),
    ("DELETE", f"{CONFIG}/routes/x"),
    ("GET", f"{CONFIG}/services"),
    ("GET", f"{CONFIG}/services/x"),
    ("PUT", f"{CONFIG}/services/x"),
    ("DELETE", f"{CONFIG}/services/x"),
    ("GET", f"{CONFIG}/blocked-networks"),
    ("PUT", f"{CONFIG}/blocked-networks"),
    ("GET", f"{CONFIG}/services/x/instances"),
    ("PUT", f"{CONFIG}/services/x/instances/a"),
    ("DELETE", f"{CONFIG}/services/x/instances/a"),
    ("POST", f"{CONFIG}/tokens"),
    ("POST", f"{CONFIG}/revocations"),
    ("GET", "/api/usage/logs"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "TOKEN_MISSING"),
        ("Bearer", "TOKEN_INVALID"),
        ("Bearer wrong", "TOKEN_INVALID"),
        (f"Basic {ADMIN_TOKEN}", "TOKEN_INVALID"),
        (f"Bearer {ADMIN_TOKEN}x", "TOKEN_INVALID"),
        ("Bearer ünï", "TOKEN_INVALID"),
    ],
)
async def test_every_path_asks_for_a_token(
    closed_app: FastAPI, method: str, path: str, header: str, code: str
) -> None:
    headers = {"authorization": header.encode()}
    async with client_of(closed_app) as api:
        answer = await api.request(method, path, headers=headers)  # type: ignore[arg-type]  # bytes, for what is not ASCII

    assert answer.status_code == 401
    assert answer.json()["code"] == code
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-request-id"] == answer.json()["requestId"]


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/metrics"])
async def test_an_operators_probes_need_none(api: httpx.AsyncClient, path: str) -> None:
    del api.headers["authorization"]

    assert (await api.get(path)).status_code == 200


async def test_a_component_that_is_down_makes_control_not_ready(parts: Parts) -> None:
    async def down() -> None:
        raise OSError

    parts.health.add("database", down)
    async with a_client(parts) as api:
        answer = await api.get("/health/ready")

    assert answer.status_code == 503
    assert answer.json()["components"] == {"database": "OSError"}


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b'{"a": NaN}', 400),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b"1", 422),
        (b" " * 2_000_000, 413),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(
    api: httpx.AsyncClient, content: bytes, status: int
) -> None:
    answer = await api.put(f"{CONFIG}/routes/a", content=content)

    assert answer.status_code == status


async def test_before_the_start_the_answer_is_503() -> None:
    async with a_client(Parts()) as api:
        answer = await api.get(f"{CONFIG}/routes")

    assert (answer.status_code, answer.json()["code"]) == (503, "NOT_READY")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", "/nope", "ROUTE_NOT_FOUND"), ("PATCH", "/health", "METHOD_NOT_ALLOWED")],
)
async def test_other_paths_and_methods_get_a_code(
    api: httpx.AsyncClient, method: str, path: str, code: str
) -> None:
    assert (await api.request(method, path)).json()["code"] == code


async def test_the_gateways_request_id_is_kept(api: httpx.AsyncClient) -> None:
    given = "00000000-0000-4000-8000-000000000001"
    kept = await api.get("/nope", headers={"x-request-id": given})
    other = await api.get("/nope", headers={"x-request-id": "evil"})

    assert kept.json()["requestId"] == given
    assert other.json()["requestId"] != "evil"


async def test_what_nobody_expected_is_a_500_without_details(
    api: httpx.AsyncClient, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts.usage, "find", None)
    answer = await api.get("/api/usage/logs")

    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL")
    assert "NoneType" not in answer.text
