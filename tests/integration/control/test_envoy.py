"""What the built configuration does in the real Envoy."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from control.changes import Applied, Rejected
from control.service import DiscoveryService
from control.store import Status
from control.xds.deployment import LogTransport
from control.xds.snapshot import ResourceType
from control.xds.subscription import Refusal
from runtime.contracts.access_log import ACCESS_LOG_ATTRIBUTES
from runtime.grpc_server import GrpcServer
from runtime.metrics import Metrics
from runtime.settings import Address
from tests.integration.control.envoy_bench import Bench, a_bench, until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with a_bench(tmp_path_factory.mktemp("envoy")) as bench:
        yield bench


async def test_a_request_passes_with_the_identity_that_authz_gave(bench: Bench) -> None:
    lies = {
        "x-user-id": "evil",
        "X_User_Id": "evil",
        "x-request-id": "evil",
        "x-envoy-original-path": "/evil",
        "x-envoy-upstream-rq-timeout-ms": "1",
    }
    answer = await bench.client.get("/echo/1", headers=lies)
    seen = answer.json()["headers"]

    assert answer.status_code == 200
    assert seen["x-user-id"] == "u-1"
    assert "evil" not in str(seen)
    assert seen["x-request-id"] == answer.headers["x-request-id"]


async def test_authz_is_told_the_routes_policy_and_little_else(bench: Bench) -> None:
    await bench.client.get("/echo", headers={"authorization": "a", "cookie": "b"})
    attributes = bench.gatekeeper.asked[-1].attributes
    headers = attributes.request.http.headers

    told = dict(attributes.context_extensions)
    assert json.loads(told.pop("policy")) == {
        "route": "echo",
        "auth": "required",
        "roles": "",
        "service": "up",
    }
    assert told == {}
    assert headers["authorization"] == "a"
    assert "cookie" not in headers


async def test_answers_carry_security_headers_and_hide_servers(bench: Bench) -> None:
    for path in ("/echo", "/health", "/nope", "/dead"):
        headers = (await bench.client.get(path)).headers

        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-request-id"]
        assert not {"server", "x-powered-by"} & set(headers)
        assert not [name for name in headers if name.startswith("x-envoy")]


async def test_health_is_envoys_own_answer(bench: Bench) -> None:
    asked = len(bench.gatekeeper.asked)
    answer = await bench.client.get("/health")
    entry = await bench.entry(answer.headers["x-request-id"])

    assert answer.json() == {"status": "ok"}
    assert answer.headers["content-type"] == "application/json"
    assert len(bench.gatekeeper.asked) == asked
    assert entry["service"] == "gateway"


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"url": "/nope"}, 404, "ROUTE_NOT_FOUND"),
        ({"url": "/echoes"}, 404, "ROUTE_NOT_FOUND"),
        ({"url": "/dead"}, 503, "UPSTREAM_UNAVAILABLE"),
        ({"url": "/slow"}, 504, "UPSTREAM_TIMEOUT"),
        ({"url": "/echo%2f"}, 400, "BAD_REQUEST"),
        ({"url": "/echo", "content": b"x" * 20_000}, 413, "PAYLOAD_TOO_LARGE"),
        ({"url": "/echo", "headers": {"a": "x" * 40_000}}, 431, "HEADERS_TOO_LARGE"),
        (
            {
                "url": "/echo",
                "headers": {
                    "connection": "upgrade",
                    "upgrade": "websocket",
                    "sec-websocket-version": "13",
                    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
                },
            },
            403,
            "FORBIDDEN",
        ),
    ],
    ids=[
        "no route",
        "no prefix of a word",
        "no upstream",
        "no answer in time",
        "escaped slash",
        "large body",
        "large headers",
        "no websocket here",
    ],
)
async def test_every_answer_of_the_gateways_own_is_json_with_a_code(
    bench: Bench, request_: dict[str, Any], status: int, code: str
) -> None:
    method = "POST" if "content" in request_ else "GET"
    answer = await bench.client.request(method, **request_)
    body = answer.json()

    assert (answer.status_code, body["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/json"
    assert set(body) == {"code", "message", "requestId"}
    # Before a stream is set up there is no id yet.
    assert body["requestId"] == answer.headers.get("x-request-id")


async def test_the_first_event_arrives_before_the_last_is_made(bench: Bench) -> None:
    async with bench.client.stream("GET", "/held") as answer:
        lines = answer.aiter_lines()
        first = await anext(lines)
        bench.upstream.release.set()
        rest = [line async for line in lines if line]

    assert (first, rest) == ("data: first", ["data: last"])


@pytest.mark.parametrize(
    ("path", "protocol", "model", "tokens"),
    [
        ("/ai/openai", "1", "gpt-4o-mini", ("11", "7", "18")),
        ("/ai/openai/stream", "1", "gpt-4o-mini", ("11", "7", "18")),
        ("/ai/anthropic", "3", "claude-sonnet-4-5", ("9", "3", "12")),
        ("/ai/anthropic/stream", "3", "claude-sonnet-4-5", ("9", "9", "18")),
    ],
)
async def test_tokens_are_read_from_an_ai_answer(
    bench: Bench, path: str, protocol: str, model: str, tokens: tuple[str, str, str]
) -> None:
    answer = await bench.client.get(path, headers={"accept-encoding": "gzip"})
    entry = await bench.entry(answer.headers["x-request-id"])

    assert (entry["llm_protocol"], entry["llm_model"]) == (protocol, model)
    assert (entry["llm_input"], entry["llm_output"], entry["llm_total"]) == tokens
    assert entry["llm_status"] == "1"
    assert (entry["user_id"], entry["role"]) == ("u-1", "user")


async def test_answers_of_other_routes_are_not_read(bench: Bench) -> None:
    answer = await bench.client.get("/plain/openai")
    entry = await bench.entry(answer.headers["x-request-id"])

    assert answer.json()["usage"]["total_tokens"] == 18
    assert entry["path"] == "/plain/openai"
    missing = set(ACCESS_LOG_ATTRIBUTES) - set(entry)
    assert missing == {one for one in missing if one.startswith(("llm_", "sse"))}
    assert {"llm_total", "llm_status", "sse"} <= missing


async def test_every_request_is_logged_once(bench: Bench) -> None:
    paths = ("/ai/openai", "/ai/openai/stream", "/echo", "/nope", "/health", "/dead")
    answers = [await bench.client.get(path) for path in paths]
    ids = [answer.headers["x-request-id"] for answer in answers]
    entries = [await bench.entry(one) for one in ids]
    written = [entry["id"] for entry in bench.entries()]

    assert [written.count(one) for one in ids] == [1] * len(paths)
    assert ["llm_total" in entry for entry in entries] == [True] * 2 + [False] * 4


async def test_a_new_route_serves_as_soon_as_it_is_answered(bench: Bench) -> None:
    outcome = await bench.add(id="new", prefix="/new", prefix_rewrite="/")
    answer = await bench.client.get("/new/x?y=1")

    assert isinstance(outcome, Applied)
    assert outcome.published.nodes == ("envoy-1",)
    assert outcome.published.waiting_for == ()
    assert answer.json()["path"] == "/x"


async def test_a_more_specific_route_is_not_hidden(bench: Bench) -> None:
    await bench.add(id="deep", prefix="/echo/deep", prefix_rewrite="/found")
    answer = await bench.client.get("/echo/deep")

    assert answer.json()["path"] == "/found"


@pytest.mark.parametrize(
    ("prefix", "rewrite", "path", "expected"),
    [
        ("/old", "/v1", "/old/a", "/v1/a"),
        ("/old/", "/v1", "/old/a", "/v1/a"),
        ("/old", "/v1/", "/old/a", "/v1/a"),
        ("/old/", "/v1/", "/old/a", "/v1/a"),
        ("/old/", "/", "/old/a", "/a"),
        ("/old", "/v1/", "/old", "/v1/"),
    ],
)
async def test_what_follows_a_prefix_follows_what_replaces_it(
    bench: Bench, prefix: str, rewrite: str, path: str, expected: str
) -> None:
    await bench.add(id="old", prefix=prefix, prefix_rewrite=rewrite)

    assert (await bench.client.get(path)).json()["path"] == expected


async def test_a_method_that_is_not_listed_gets_405(bench: Bench) -> None:
    await bench.add(id="getonly", path="/getonly", methods=["GET"])
    answer = await bench.client.put("/getonly")

    assert (answer.status_code, answer.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("regex", "reason"),
    [("(", "missing ): ("), ("/a(?=b)", "invalid perl operator: (?=")],
)
async def test_what_envoy_would_refuse_is_refused_before_any_has_it(
    bench: Bench, regex: str, reason: str
) -> None:
    before = bench.snapshots.target
    outcome = await bench.add(id="bad", regex=regex)

    assert outcome == Rejected(reason)
    assert bench.snapshots.target == before
    assert (await bench.client.get("/echo")).status_code == 200


async def test_a_refusal_of_a_running_envoy_restores_the_last_good(
    bench: Bench,
) -> None:
    good = bench.snapshots.target
    broken = good.replaced(ResourceType.ROUTES, {"gateway": b"\xff\xff"})
    outcome = await bench.snapshots.publish(broken, 5.0)
    answer = await bench.client.get("/echo")

    assert isinstance(outcome, Refusal)
    assert outcome.node == "envoy-1"
    assert bench.snapshots.target == good
    assert answer.status_code == 200
    assert isinstance(await bench.add(id="after", path="/after"), Applied)


async def test_a_service_can_be_moved_and_removed_without_a_failed_request(
    bench: Bench,
) -> None:
    statuses: list[int] = []
    is_done = asyncio.Event()

    async def load() -> None:
        while not is_done.is_set():
            statuses.append((await bench.client.get("/moving")).status_code)

    await bench.add(id="moving", path="/moving")
    loading = asyncio.create_task(load())
    port = bench.changes.revision.document["services"]["up"]["instances"]
    for name in ("one", "two", "three"):

        def edit(document: dict[str, Any], name: str = name) -> dict[str, Any]:
            routes = [
                {**one, "service": name} if one["id"] == "moving" else one
                for one in document["routes"]
            ]
            kept = {key: document["services"][key] for key in ("up", "dead")}
            services = {**kept, name: {"instances": port}}
            return {**document, "services": services, "routes": routes}

        await bench.changes.apply(edit, "test", "")

    async def only_the_last_is_left() -> bool:
        await bench.changes.follow()
        left = set(bench.snapshots.target.of(ResourceType.CLUSTER))
        return left.isdisjoint({"one", "two"})

    await until(only_the_last_is_left)
    is_done.set()
    await loading

    assert set(statuses) == {200}


async def test_while_control_is_away_envoy_serves_and_comes_back(bench: Bench) -> None:
    port = bench.ads.port
    bench.discovery.stop()
    await bench.ads.stop(0.0)
    away = await bench.client.get("/echo")
    bench.discovery = DiscoveryService(bench.snapshots)
    bench.ads = GrpcServer(
        Address(host="127.0.0.1", port=port), bench.discovery.methods(), Metrics()
    )
    await bench.ads.start()

    async def is_back() -> bool:
        return bench.snapshots.nodes == ("envoy-1",)

    await until(is_back)
    outcome = await bench.add(id="back", path="/back")
    kept = await bench.ports.store.active()

    assert away.status_code == 200
    assert isinstance(outcome, Applied)
    assert (await bench.client.get("/back")).status_code == 200
    assert kept is not None
    assert kept.status is Status.ACTIVE


async def test_when_authz_is_away_the_door_is_closed(tmp_path: Path) -> None:
    nowhere = (Address(host="127.0.0.1", port=1),)
    async with a_bench(
        tmp_path, authz=nowhere, log_transport=LogTransport.ALS
    ) as bench:
        closed = await bench.client.get("/echo")
        health = await bench.client.get("/health")

    assert (closed.status_code, closed.json()["code"]) == (503, "AUTH_UNAVAILABLE")
    assert health.status_code == 200
