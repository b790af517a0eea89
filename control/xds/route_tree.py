"""Routes found by the beginning of their path, where there are too many to try in turn.

Envoy tries routes one after another: with two thousand of them that took most of its
time. A map of path beginnings (`VirtualHost.matcher`) leads to short lists instead,
each in the document's order. Every list has all routes that can match a path which
begins so, those with short prefixes and the regular expressions too: the first match
of the list is the first match of all.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from envoy.config.route.v3 import route_components_pb2
from envoy.type.matcher.v3 import http_inputs_pb2
from xds.type.matcher.v3 import matcher_pb2  # type: ignore[import-untyped]  # no stubs

#: A list as long as this is tried in a few microseconds.
FEW = 32
#: So many must be divided for each that is copied.
WORTH = 2
#: Routes in all lists together, for each that there is; else there is one list.
MOST_COPIES = 4

#: In a full match, what comes first if it is none of RE2's operators.
_PLAIN = re.compile(r"[A-Za-z0-9/_-]*")
_REPEATS = ("?", "*", "{")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A route, and what each path that it matches begins with."""

    begins: str
    #: What may follow directly; anything if None. A query may follow every path.
    then: str | None
    content: bytes


def add(host: route_components_pb2.VirtualHost, routes: Sequence[bytes]) -> None:
    """Give a host its routes, in their order."""
    lists = dict(lists_by_beginning(routes))
    copies = sum(map(len, lists.values()))
    if len(lists) == 1 or copies > MOST_COPIES * len(routes):
        host.routes.extend(map(route_components_pb2.Route.FromString, routes))
        return
    rest = lists.pop("")
    tree = host.matcher.matcher_tree
    tree.input.name = "path"
    tree.input.typed_config.Pack(
        http_inputs_pb2.HttpRequestHeaderMatchInput(header_name=":path")
    )
    for begins, content in lists.items():
        _lead_to(tree.prefix_match_map.map[begins], begins, content)
    _lead_to(host.matcher.on_no_match, "rest", rest)


def lists_by_beginning(
    routes: Sequence[bytes],
) -> Iterator[tuple[str, Sequence[bytes]]]:
    """The routes to try, in order, by the longest beginning that a path has.

    The empty beginning is for every path that has none of the others.
    """
    yield from _split("", [_entry(one) for one in routes])


def _lead_to(
    on_match: matcher_pb2.Matcher.OnMatch, name: str, routes: Sequence[bytes]
) -> None:
    found = route_components_pb2.RouteList()
    found.routes.extend(map(route_components_pb2.Route.FromString, routes))
    on_match.action.name = name
    on_match.action.typed_config.Pack(found, deterministic=True)


def _split(
    begins: str, entries: Sequence[_Entry]
) -> Iterator[tuple[str, Sequence[bytes]]]:
    """All of `entries` can match a path that begins with `begins`."""
    size = len(begins)
    by_next: defaultdict[str, list[_Entry]] = defaultdict(list)
    for one in entries:
        if len(one.begins) > size:
            by_next[one.begins[size]].append(one)
    everywhere = sum(len(one.begins) <= size for one in entries)
    divided = len(entries) - everywhere
    if len(entries) <= FEW or WORTH * everywhere * len(by_next) > divided:
        yield begins, [one.content for one in entries]
        return
    for group in by_next.values():
        longer = _shared([one.begins for one in group])
        yield from _split(longer, [one for one in entries if _can_match(one, longer)])
    yield begins, [one.content for one in entries if len(one.begins) <= size]


def _shared(texts: Sequence[str]) -> str:
    """The longest text that all begin with."""
    first, last = min(texts), max(texts)
    pairs = zip(first, last, strict=False)
    length = next((n for n, (a, b) in enumerate(pairs) if a != b), len(first))
    return first[:length]


def _can_match(one: _Entry, begins: str) -> bool:
    """Whether it matches any path that begins so."""
    size = len(one.begins)
    if size >= len(begins):
        return one.begins.startswith(begins)
    if not begins.startswith(one.begins):
        return False
    return one.then is None or begins[size] in one.then


def _entry(content: bytes) -> _Entry:
    match = route_components_pb2.Route.FromString(content).match
    kind = match.WhichOneof("path_specifier")
    if kind == "path":
        return _Entry(match.path, "?#", content)
    if kind == "path_separated_prefix":
        return _Entry(match.path_separated_prefix, "/?#", content)
    if kind == "prefix":
        return _Entry(match.prefix, None, content)
    return _Entry(_beginning(match.safe_regex.regex), None, content)


def _beginning(regex: str) -> str:
    """What every match begins with, as far as that is plain to see."""
    if "|" in regex:
        return ""
    text = regex.removeprefix("^")
    found = _PLAIN.match(text)
    plain = found[0] if found else ""
    return plain[:-1] if text[len(plain) :].startswith(_REPEATS) else plain
