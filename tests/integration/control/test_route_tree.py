"""Of hundreds of routes Envoy takes the one that it takes when it tries them all."""

import json
import random
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from envoy.config.route.v3 import route_components_pb2
from google.protobuf import json_format

from control.parse import from_document
from control.validate import find_envoy
from control.xds import route_tree, routes
from runtime.contracts import DecisionCalls
from tests.integration.control.envoy_bench import free_port

pytestmark = pytest.mark.e2e

ROUTES = 400
ASKED = 700
_EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"
_SEGMENTS = ("api", "ap", "apis", "v1", "v10", "a", "b", "users", "user", "x-1", "1.0")
_REGEXES = ("/api/[^/]+/v1", "^/ap/.*", "/api?/users", "/(a|b)/v1/.*", "/user|/users")
_CORS = {"origins": ["https://app.example"]}


def a_path(chance: random.Random) -> str:
    return "".join(f"/{chance.choice(_SEGMENTS)}" for _ in range(chance.randint(1, 4)))


def a_document(chance: random.Random) -> dict[str, Any]:
    """Exact paths, prefixes and regular expressions, for all methods and for some."""
    found: dict[tuple[str, str], dict[str, Any]] = {
        ("regex", text): {"regex": text} for text in _REGEXES
    }
    while len(found) < ROUTES:
        kind = chance.choice(("path", "prefix", "prefix"))
        path = a_path(chance) + chance.choice(("", "", "/"))
        found[kind, path] = {kind: path}
        if chance.random() < 0.3:
            found[kind, path]["methods"] = [chance.choice(("GET", "POST", "PUT"))]
        if chance.random() < 0.2:
            found[kind, path]["cors"] = _CORS
    return {
        "version": 1,
        "services": {"up": {"instances": ["127.0.0.1:1"]}},
        "routes": [
            {"id": f"r{n}", "service": "up", **one}
            for n, one in enumerate(found.values())
        ],
    }


def numbered(content: bytes, number: int) -> bytes:
    """The route, which only says its number."""
    route = route_components_pb2.Route.FromString(content)
    said = route_components_pb2.Route(name=str(number), match=route.match)
    said.direct_response.status = 200
    header = said.response_headers_to_add.add().header
    header.key, header.value = "x-route", str(number)
    return bytes(said.SerializeToString())


def bootstrap(found: list[bytes], port: int) -> str:
    tree = route_components_pb2.VirtualHost(name="tree", domains=["tree"])
    route_tree.add(tree, found)
    assert tree.HasField("matcher")
    plain = route_components_pb2.VirtualHost(name="plain", domains=["plain"])
    plain.routes.extend(map(route_components_pb2.Route.FromString, found))
    router = {"@type": f"{_EXTENSIONS}.http.router.v3.Router"}
    hosts = [json_format.MessageToDict(one) for one in (tree, plain)]
    manager = {
        "@type": f"{_EXTENSIONS}.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [{"name": "router", "typed_config": router}],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    listener = {"name": "http", "address": address, "filter_chains": [chain]}
    return json.dumps({"static_resources": {"listeners": [listener]}})


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    config = from_document(a_document(random.Random(6)))  # noqa: S311 - no secret
    in_order = routes.in_order(config, DecisionCalls.ONE)
    port = free_port()
    file = tmp_path_factory.mktemp("envoy") / "envoy.json"
    said = [numbered(one, number) for number, one in enumerate(in_order)]
    file.write_text(bootstrap(said, port))
    argv = (find_envoy(None), "-c", file, "--disable-hot-restart", "--concurrency", "1")
    with subprocess.Popen([*map(str, argv), "--log-level", "error"]) as envoy:
        transport = httpx.HTTPTransport(retries=8)
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", transport=transport, trust_env=False
        ) as client:
            yield client
        envoy.terminate()


def route_of(client: httpx.Client, host: str, request: dict[str, Any]) -> str:
    headers = {**request["headers"], "host": host}
    answer = client.request(request["method"], request["path"], headers=headers)
    return str(answer.headers.get("x-route", "none"))


def test_the_route_is_that_of_the_whole_list_in_order(client: httpx.Client) -> None:
    chance = random.Random(7)  # noqa: S311 - no secret
    taken = set()
    for _ in range(ASKED):
        preflight = {"origin": "https://app.example"}
        preflight["access-control-request-method"] = "GET"
        end = chance.choice(("", "", "/", "s", "/more", "?to=/api/v1", "/?x=1"))
        request = {
            "path": a_path(chance) + end,
            "method": chance.choice(("GET", "GET", "POST", "DELETE", "OPTIONS", "ODD")),
            "headers": chance.choice(({}, preflight)),
        }
        expected = route_of(client, "plain", request)
        assert route_of(client, "tree", request) == expected, request
        taken.add(expected)

    assert len(taken) > 50
