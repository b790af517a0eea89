import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from control.api import create_app
from runtime.identity.tokens import Claims
from tests.builders import NOW, a_token, a_verifier
from tests.builders_control import ADMIN_TOKEN, Parts, a_config

ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
ROUTE = {"path": "/a", "service": "core"}
CONFIG = "/control/v1"


async def started() -> Parts:
    parts = Parts()
    await parts.changes.start(a_config({"id": "first", "path": "/first"}))
    return parts


@pytest.fixture
async def parts() -> Parts:
    return await started()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def closed_app() -> FastAPI:
    """One for all requests that get nowhere: most of their time is making it."""
    return create_app((await started()).deps())


@pytest.fixture
async def api(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    async with a_client(parts) as client:
        yield client


def a_client(parts: Parts, *, signs: bool = True) -> httpx.AsyncClient:
    return client_of(create_app(parts.deps(signs=signs)))


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://c", headers=ADMIN)


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


async def test_a_token_can_be_issued_and_verifies(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    body = {"user": "u", "role": "user", "ttl_s": 60}
    answer = await api.post(f"{CONFIG}/tokens", json=body)
    claims = await a_verifier(parts.clock).verify(answer.json()["token"])

    assert answer.status_code == 201
    assert isinstance(claims, Claims)
    assert (claims.sub, claims.role, claims.exp) == ("u", "user", NOW + 60)
    assert claims.jti == answer.json()["jti"]


@pytest.mark.parametrize(
    "body",
    [
        {"role": "user"},
        {"user": "u"},
        {"user": "", "role": "user"},
        {"user": " u", "role": "user"},
        {"user": "u\n", "role": "user"},
        {"user": 1, "role": "user"},
        {"user": "u", "role": "user", "ttl_s": 0},
        {"user": "u", "role": "user", "ttl_s": True},
        {"user": "u", "role": "user", "ttl": 5},
        # The revocation of its user would end before it does.
        {"user": "u", "role": "user", "ttl_s": 3601},
    ],
)
async def test_a_token_for_nobody_is_refused(
    api: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    assert (await api.post(f"{CONFIG}/tokens", json=body)).status_code == 422


async def test_without_a_signing_key_no_token_is_issued(parts: Parts) -> None:
    async with a_client(parts, signs=False) as api:
        answer = await api.post(f"{CONFIG}/tokens", json={"user": "u", "role": "user"})

    assert (answer.status_code, answer.json()["code"]) == (409, "NOT_ENABLED")


async def test_a_token_is_revoked_for_as_long_as_it_lives(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    token = a_token(jti="t-9", exp=NOW + 100)
    answer = await api.post(f"{CONFIG}/revocations", json={"token": token})

    assert answer.status_code == 200
    assert parts.revocations.keys == {"bl:t-9": 130}


async def test_a_token_that_lives_for_years_is_revoked_for_years(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    years = 3 * 366 * 86_400
    token = a_token(jti="t-9", exp=NOW + years)
    await api.post(f"{CONFIG}/revocations", json={"token": token})

    assert parts.revocations.keys == {"bl:t-9": years + 30}


#: The longest token of these tests, and the leeway.
LONGEST_S = 3600 + 30


@pytest.mark.parametrize("kind", ["jti", "user"])
async def test_what_is_revoked_by_name_stays_so_until_no_token_is_of_use(
    api: httpx.AsyncClient, kind: str
) -> None:
    answer = await api.post(f"{CONFIG}/revocations", json={kind: "a"})

    assert answer.json()["expiresIn"] == LONGEST_S


@pytest.mark.parametrize("exp", ["null", '"9"', "true", "NaN", "1e999", "9" * 400])
async def test_a_token_that_does_not_say_its_end_is_revoked_as_long_as_any_may_live(
    api: httpx.AsyncClient, parts: Parts, exp: str
) -> None:
    segments = (b"{}", b'{"jti":"t","exp":%s}' % exp.encode(), b"x")
    token = b".".join(base64.urlsafe_b64encode(one).rstrip(b"=") for one in segments)
    answer = await api.post(f"{CONFIG}/revocations", json={"token": token.decode()})

    assert answer.status_code == 200
    assert parts.revocations.keys == {"bl:t": LONGEST_S}


async def test_a_jti_and_a_user_can_be_revoked(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    await api.post(f"{CONFIG}/revocations", json={"jti": "t-1"})
    await api.post(f"{CONFIG}/revocations", json={"user": "u-1"})

    assert set(parts.revocations.keys) == {"bl:t-1", "bl:user:u-1"}
    assert parts.revocations.keys["bl:user:u-1"] == NOW


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"jti": "a", "user": "b"},
        {"nope": "a"},
        {"token": "no.jwt.here"},
        {"token": a_token(jti=...)},
        {"jti": ""},
        {"jti": "user:u-1"},
        {"user": 5},
    ],
)
async def test_a_revocation_of_nothing_is_refused(
    api: httpx.AsyncClient, parts: Parts, body: dict[str, Any]
) -> None:
    answer = await api.post(f"{CONFIG}/revocations", json=body)

    assert answer.status_code == 422
    assert parts.revocations.keys == {}


async def test_a_revocation_that_redis_did_not_take_is_503(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.revocations.is_available = False
    answer = await api.post(f"{CONFIG}/revocations", json={"jti": "a"})

    assert (answer.status_code, answer.json()["code"]) == (503, "REDIS_UNAVAILABLE")


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
