"""Lines of Envoy's file log: which requests they are of, and what they say. Pure.

A killed Envoy leaves a line half written, and the next one begins right behind it.
"""

import json
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import contains
from typing import Any, Final
from uuid import UUID

from runtime.values import value

_ID: Final = re.compile(
    rb'"id":"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"'
)
_START: Final = re.compile(rb'"start":"[0-9]{1,11}\.[0-9]{6}"')
_BEGIN: Final = b'{"'
_NODE: Final = "node"


@value
class Logged:
    """One request's place in a block of lines; `id` is `UUID.int`."""

    id: int
    start: str  # Unix seconds with six decimals
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a block holds: its requests, and how many lines could not be read."""

    logged: list[Logged]
    torn: int


def find(block: bytes, offset: int, known: Container[int] = frozenset()) -> Found:
    """The requests of a block of whole lines that begins at `offset` of its file.

    Without those of `known` ids. Lines of what never was a request have no id and are
    passed over.
    """
    lines, ids = block.split(b"\n"), _ID.findall(block)
    numbers: Iterable[int | None] = repeat(None)
    # One in each line: so it is but after a killed Envoy.
    if len(ids) == len(lines) - 1 and all(map(contains, lines, ids)):
        numbers = chain(map(_int, ids), (None,))
    logged, torn = [], 0
    for number, line in zip(numbers, lines, strict=False):
        if line and (number is None or number not in known):
            one = _of_line(line, offset)
            if one is None:
                torn += bool(_ID.search(line))
            elif one.id not in known:
                logged.append(one)
        offset += len(line) + 1
    return Found(logged, torn)


def _of_line(line: bytes, offset: int) -> Logged | None:
    """None: there is no whole entry of a request in it."""
    ids, starts = _ID.findall(line), _START.findall(line)
    if len(ids) == 1 and len(starts) == 1 and line.startswith(_BEGIN):
        return Logged(_int(ids[0]), starts[0][9:-1].decode(), offset, len(line))
    entry = whole(line) if ids else None
    if entry is None:
        return None
    return Logged(UUID(entry["id"]).int, entry["start"], offset, len(line))


def whole(line: bytes) -> dict[str, Any] | None:
    """The entry at the end of a line, whatever is torn before it; None: no entry."""
    begin = line.find(_BEGIN)
    while begin >= 0:
        try:
            found = json.loads(line[begin:])
        except ValueError:
            begin = line.find(_BEGIN, begin + 1)
            continue
        is_entry = isinstance(found, dict) and _is_entry(found)
        return found if is_entry else None
    return None


def payload_of(node: str, entries: Sequence[dict[str, Any]]) -> bytes:
    """A spool entry of the kind LINES."""
    return b"\n".join(json.dumps({**one, _NODE: node}).encode() for one in entries)


def entries(payload: bytes) -> Iterator[tuple[str, dict[str, str]]]:
    """Node and access-log attributes of each line of a spool entry of that kind.

    Envoy's JSON has numbers where its other transports have text, and null for "-".
    """
    for line in payload.split(b"\n"):
        found: dict[str, Any] = json.loads(line)
        node = found.pop(_NODE)
        yield node, {key: _text(value) for key, value in found.items()}


def _is_entry(found: dict[str, Any]) -> bool:
    said = json.dumps({"id": found.get("id"), "start": found.get("start")})
    compact = said.replace(": ", ":").encode()
    return bool(_ID.search(compact) and _START.search(compact))


def _int(found: bytes) -> int:
    """`UUID.int` in what _ID finds."""
    return int(found[6:-1].replace(b"-", b""), 16)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)
