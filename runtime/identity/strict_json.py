"""JSON as a security decision needs it: one reading, or none (RFC 8259 §4)."""

import json
from typing import Any, NoReturn

MAX_DEPTH = 16


def loads(data: bytes) -> dict[str, Any]:
    """The object in `data`.

    Raises:
        ValueError: not UTF-8, not one JSON object, a member twice, a number that is
            not finite, or nested deeper than 16.
    """
    text = data.decode("utf-8")
    if _depth(text) > MAX_DEPTH:
        raise ValueError("nested too deeply")
    value = json.loads(
        text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
    )
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _depth(text: str) -> int:
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
