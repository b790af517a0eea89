from pathlib import Path
from typing import Any

import pytest

from control.model import GatewayConfig, Route, ordered
from control.parse import ConfigRefused, Problem, from_document, parse

ROOT = Path(__file__).parents[3]
HEAD = "version: 1\nservices: {core: {instances: ['127.0.0.1:1']}}\nroutes:\n"


def problems(text: str) -> list[Problem]:
    with pytest.raises(ConfigRefused) as refused:
        parse(text)
    return refused.value.problems


def found(text: str) -> list[tuple[int | None, str]]:
    return [(one.line, one.field) for one in problems(text)]


def config(*routes: dict[str, Any], **more: Any) -> GatewayConfig:
    document = {
        "version": 1,
        "services": {"core": {"instances": ["127.0.0.1:1"]}},
        "routes": [{"service": "core", **one} for one in routes],
        **more,
    }
    parsed: GatewayConfig = from_document(document)
    return parsed


def refusals(*routes: dict[str, Any], **more: Any) -> str:
    with pytest.raises(ConfigRefused) as refused:
        config(*routes, **more)
    return str(refused.value)


def test_the_default_configuration_is_valid() -> None:
    parsed = parse((ROOT / "gateway.yaml").read_text())

    assert {"core-service", "auth-service", "mcp-server"} == set(parsed.services)
    assert parsed.limits.roles["admin"] == "unlimited"


def test_a_document_survives_being_kept_and_read_again() -> None:
    parsed = parse((ROOT / "gateway.yaml").read_text())

    assert from_document(parsed.document()) == parsed
    assert "${HUBGATE_UPSTREAM_CORE" in str(parsed.document())


def test_every_problem_is_told_at_once_with_its_line() -> None:
    text = (
        "version: 1\n"
        "services:\n"
        "  core: {instances: ['127.0.0.1:1'], conect_timeout: 1s}\n"
        "routes:\n"
        "- id: users\n"
        "  prefix: /api/users\n"
        "  prefix: /api/other\n"
        "  auth: maybe\n"
        "  timeout: 15\n"
        "  rate_limit: {requests: 0, per: week}\n"
    )

    assert found(text) == [
        (3, "services.core.conect_timeout"),
        (5, "routes[0].service"),
        (7, "routes[0].prefix"),
        (8, "routes[0].auth"),
        (9, "routes[0].timeout"),
        (10, "routes[0].rate_limit.per"),
        (10, "routes[0].rate_limit.requests"),
    ]


def test_an_unknown_field_is_answered_with_the_nearest_known() -> None:
    (problem,) = problems("version: 1\nroute: []\n")

    assert problem.message == "no such field; did you mean routes?"


def test_problems_between_routes_have_the_line_of_the_route() -> None:
    text = HEAD + (
        "- {id: a, prefix: /a, service: core}\n"
        "- {id: b, prefix: /a, service: core}\n"
        "- {id: c, prefix: /c, service: nope}\n"
    )

    assert found(text) == [(5, "routes[1]"), (6, "routes[2]")]


@pytest.mark.parametrize(
    ("text", "line"),
    [("version: 1\n  x: [", 2), ("a: 'b\n", 2), ("\t- x", 1), ("", None)],
)
def test_what_is_no_yaml_is_told_with_its_line(text: str, line: int | None) -> None:
    (problem,) = problems(text)

    assert problem.line == line


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]\n"
            for n in range(9)
        ),
        "a: &a [*a]\n",
        "a: " + "[" * 40 + "]" * 40,
    ],
    ids=["billion laughs", "endless", "deep"],
)
def test_a_bomb_is_refused_before_it_goes_off(text: str) -> None:
    assert "too large or too deep" in problems(text)[0].message


@pytest.mark.parametrize(
    "value",
    [
        *("!!python/object:os.system x", "!secret 1", '!!int ""', "!!int x"),
        *('!!float ""', "!!bool x", "!!timestamp x", "!!binary é", "!!set x"),
    ],
)
def test_a_tag_makes_nothing(value: str) -> None:
    assert found(f"version: {value}\n")[0] == (1, "version")


@pytest.mark.parametrize("value", ["2026-01-01", "1.5", "yes", "~", "[]"])
def test_what_yaml_does_not_read_as_text_is_told_to_be_quoted(value: str) -> None:
    (problem,) = problems(
        f"version: 1\nroutes: [{{id: {value}, path: /a, service: control}}]"
    )

    assert problem.field == "routes[0].id"
    assert "in quotes" in problem.message


def test_a_field_name_that_is_no_text_is_refused() -> None:
    assert (2, "document") in found("version: 1\n? [a, b]\n: 1\n")


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ({"id": "a"}, "give exactly one of prefix, path and regex (given: none)"),
        ({"id": "a", "path": "/a", "prefix": "/a"}, "(given: path, prefix)"),
        ({"id": "a", "regex": "/a", "prefix_rewrite": "/"}, "not with regex"),
        ({"id": "a", "path": "/a", "auth": "none", "roles": ["x"]}, "roles are only"),
        ({"id": "a", "path": "a"}, "starts with /"),
        ({"id": "a", "path": "/a?b"}, "starts with /"),
        ({"id": "a", "path": "/a\r\nx: y"}, "starts with /"),
        ({"id": "a", "prefix": "/a/{id}"}, "for a pattern give regex"),
        ({"id": "a", "path": "/a/../b"}, "no request has such a path"),
        ({"id": "a", "regex": "/a\0"}, "visible characters"),
        ({"id": "a", "path": "/health"}, "never be reached: /health is the gateway"),
        ({"id": "a", "path": "/a", "methods": ["PURGE"]}, "edge.methods has none"),
        ({"id": "a", "path": "/a", "timeout": "0.5ms"}, "at least 1ms"),
        ({"id": "A", "path": "/a"}, "lower-case"),
        ({"id": "a", "path": "/a", "methods": ["get"]}, "in capitals"),
        ({"id": "a", "path": "/a", "methods": []}, "at least 1 item"),
        ({"id": "a", "path": "/a", "roles": ["a,b"]}, "role name"),
        ({"id": "a", "path": "/a", "timeout": 15}, 'such as "15s"'),
        ({"id": "a", "path": "/a", "rate_limit": "lots"}, "'role' or 'none'"),
        ({"id": "a", "path": "/a", "service": "nope"}, "declare it first"),
        ({"id": "a", "path": "/a", "include_usage": True}, "goes with ai: true"),
    ],
)
def test_a_route_that_says_nonsense_is_refused(
    route: dict[str, Any], message: str
) -> None:
    assert message in refusals(route)


@pytest.mark.parametrize("name", ["control", "gateway", "authz", "ads"])
def test_names_of_our_own_clusters_are_reserved(name: str) -> None:
    assert "reserved" in refusals(services={name: {"instances": ["a:1"]}})


@pytest.mark.parametrize(
    "service",
    [
        {"instances": ["nowhere"]},
        {"instances": ["${HOME}:80"]},
        {"instances": ["a:1"], "connect_timeout": "0s"},
        {"instances": ["a:1"], "connect_timeout": "2m"},
        {"instances": ["a:1"], "health_check": {"path": "/h", "interval": "0s"}},
        {"instances": ["a:1"], "health_check": {"path": "h"}},
        {"instances": ["a:1"], "ejection": {"ejected_for": "1h"}},
        {"instances": ["a:1"], "breaker": {"requests": 0}},
    ],
)
def test_a_service_that_nobody_can_reach_is_refused(service: dict[str, Any]) -> None:
    assert "services.x" in refusals(services={"x": service})


def test_routes_may_go_to_control() -> None:
    assert config({"id": "a", "path": "/a", "service": "control"}).routes


def test_two_routes_may_share_a_match_with_different_methods() -> None:
    get = {"id": "a", "path": "/a", "methods": ["GET"]}

    assert config(get, {"id": "b", "path": "/a", "methods": ["PUT"]}).routes
    assert config(get, {"id": "b", "path": "/a"}).routes
    assert "never be reached" in refusals(get, {**get, "id": "b"})


def test_ids_are_unique() -> None:
    text = refusals({"id": "a", "path": "/a"}, {"id": "a", "path": "/b"})

    assert "not unique" in text


@pytest.mark.parametrize(
    "parts",
    [
        {"prices_version": "a\0"},
        {"prices": [{"service": "a\0", "model": "m", "from": "2026-01-01"}]},
        {"prices": [{"service": "s", "model": "m\0", "from": "2026-01-01"}]},
        {"usage": {"manager_sees": {"m\0": ["u"]}}},
        {"usage": {"manager_sees": {"m": ["u\0"]}}},
    ],
)
def test_text_that_no_database_takes_is_refused(parts: dict[str, Any]) -> None:
    assert "give visible characters" in refusals(**parts)


def test_a_price_pattern_has_few_stars() -> None:
    price = {"service": "s", "model": "*a*b*c*d*", "from": "2026-01-01"}

    assert "at most 4 stars" in refusals(prices=[price])


def test_strangers_need_a_limit() -> None:
    assert "give guest a limit" in refusals(limits={"roles": {"admin": "unlimited"}})


def order(*routes: dict[str, Any]) -> list[str]:
    return [one.id for one in ordered(config(*routes).routes)]


def test_a_longer_prefix_is_tried_first_wherever_it_stands() -> None:
    routes = (
        {"id": "mcp", "prefix": "/api/mcp"},
        {"id": "foo", "prefix": "/api/mcp/foo"},
    )

    assert order(*routes) == order(*reversed(routes)) == ["foo", "mcp"]


def test_paths_come_first_then_expressions_in_their_order_then_prefixes() -> None:
    assert order(
        {"id": "p", "prefix": "/a/long/prefix"},
        {"id": "r2", "regex": "/b.*"},
        {"id": "r1", "regex": "/a.*"},
        {"id": "x", "path": "/a"},
    ) == ["x", "r2", "r1", "p"]


def test_an_expression_for_named_methods_overtakes_no_other_expression() -> None:
    admin = {"id": "admin", "regex": "/api/v[0-9]+/admin/.*", "roles": ["admin"]}
    anybody = {"id": "anybody", "regex": "/api/.*", "methods": ["GET"]}

    assert order(admin, anybody) == ["admin", "anybody"]


def test_routes_of_one_expression_are_tried_together_where_it_first_stands() -> None:
    get = {"id": "get", "regex": "/a.*", "methods": ["GET"]}
    post = {"id": "post", "regex": "/a.*", "methods": ["POST"]}
    other = {**get, "id": "b", "regex": "/b.*"}

    assert order(get, other, post) == ["get", "post", "b"]


def test_named_methods_are_tried_before_any_method() -> None:
    assert order(
        {"id": "any", "path": "/a"}, {"id": "get", "path": "/a", "methods": ["GET"]}
    ) == ["get", "any"]


def test_a_route_can_be_a_key() -> None:
    route = {"id": "a", "path": "/a", "service": "core"}

    assert hash(Route.model_validate(route)) == hash(Route.model_validate(route))
