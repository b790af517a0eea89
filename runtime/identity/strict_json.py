"""JSON as a security decision needs it: one reading, or none (RFC 8259 §4)."""

import json
import re
from typing import Any, Final, NoReturn

MAX_DEPTH = 16

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


def loads(data: bytes) -> dict[str, Any]:
    """The object in `data`.

    Raises:
        ValueError: not UTF-8, not one JSON object, a member twice, a number that is
            not finite, or nested deeper than 16.
    """
    text = data.decode("utf-8")
    # Most texts have fewer brackets in all, those inside of strings counted.
    brackets = text.count("{") + text.count("[")
    if brackets > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise ValueError("nested too deeply")
    value = _DECODER.decode(text)
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one error for bad text
    return value


def _depth(text: str) -> int:
    depth = deepest = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


#: `json.loads` would make one for every text.
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
)
