"""Routes found by the beginning of a path: the same route as when all are tried."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from envoy.config.route.v3 import route_components_pb2
from hypothesis import given
from hypothesis import strategies as st

from control.xds import route_tree

#: Few of them, so that paths begin alike.
_SEGMENTS = st.sampled_from(["a", "b", "ab", "1"])
_PATHS = st.lists(_SEGMENTS, min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)
_MATCHES = st.one_of(
    st.tuples(st.just("path"), _PATHS),
    st.tuples(st.just("path_separated_prefix"), _PATHS),
    st.tuples(st.just("prefix"), _PATHS.map(lambda path: path + "/")),
)
_REGEXES = st.tuples(
    st.just("regex"),
    st.sampled_from(
        ["/a.*", "^/b/[ab]+", "/a?b*", "/ab{0,2}/.*", "/(a|b)/1", "/a|/b", "(?i)/A"]
    ),
)
_ASKED = st.tuples(
    _PATHS, st.sampled_from(["", "/", "/a", "/b/1", "?x=/a", "/?b", "a", "#/a"])
).map("".join)


def a_route(name: str, kind: str, text: str) -> bytes:
    route = route_components_pb2.Route(name=name)
    if kind == "regex":
        route.match.safe_regex.regex = text
    else:
        setattr(route.match, kind, text)
    return bytes(route.SerializeToString())


def some_routes(count: int) -> list[bytes]:
    return [
        a_route(f"r{n}", "path_separated_prefix", f"/api/v{n}") for n in range(count)
    ]


def matches(route: Any, asked: str) -> bool:
    """Envoy's rules: queries and fragments are no part of the path."""
    path = re.split("[?#]", asked)[0]
    kind = route.match.WhichOneof("path_specifier")
    if kind == "safe_regex":
        return re.fullmatch(route.match.safe_regex.regex, path) is not None
    text: str = getattr(route.match, kind)
    if kind == "path":
        return path == text
    if kind == "path_separated_prefix":
        return path == text or path.startswith(f"{text}/")
    return path.startswith(text)


def first_of(routes: Sequence[bytes], asked: str) -> str | None:
    read = map(route_components_pb2.Route.FromString, routes)
    return next((one.name for one in read if matches(one, asked)), None)


@pytest.fixture
def short_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_tree, "FEW", 1)
    monkeypatch.setattr(route_tree, "WORTH", 0)


@given(
    own=st.lists(_MATCHES, min_size=10, max_size=60),
    regexes=st.lists(_REGEXES, max_size=2),
    asked=st.lists(_ASKED, min_size=20, max_size=40),
)
@pytest.mark.usefixtures("short_lists")
def test_the_list_of_a_path_begins_with_the_same_match_as_all_routes(
    own: list[tuple[str, str]], regexes: list[tuple[str, str]], asked: list[str]
) -> None:
    half = len(own) // 2
    order = [*own[:half], *regexes, *own[half:], ("prefix", "/a"), ("prefix", "/")]
    routes = [a_route(str(n), *match) for n, match in enumerate(order)]
    lists = dict(route_tree.lists_by_beginning(routes))

    for path in asked:
        begins = max(filter(path.startswith, lists), key=len)
        assert first_of(lists[begins], path) == first_of(routes, path)


def test_a_few_routes_are_one_list() -> None:
    host = route_components_pb2.VirtualHost()
    route_tree.add(host, some_routes(route_tree.FEW))

    assert len(host.routes) == route_tree.FEW
    assert not host.HasField("matcher")


def test_of_many_routes_only_a_few_are_tried() -> None:
    routes = [a_route("refused", "prefix", "/"), *some_routes(2000)]
    lists = dict(route_tree.lists_by_beginning(routes))

    assert max(map(len, lists.values())) <= route_tree.FEW + 1
    assert sum(map(len, lists.values())) < 1.5 * len(routes)


def test_routes_that_may_match_anything_are_copied_no_more_than_they_save() -> None:
    routes = [a_route(str(n), "regex", f".*{n}") for n in range(300)]
    host = route_components_pb2.VirtualHost()
    route_tree.add(host, [*routes, *some_routes(300)])

    assert len(host.routes) == 600


def test_routes_one_below_the_other_are_not_copied_without_end() -> None:
    routes = [a_route(str(n), "prefix", "/" + "a/" * n) for n in range(300)]
    host = route_components_pb2.VirtualHost()
    route_tree.add(host, routes)

    assert len(host.routes) == 300
