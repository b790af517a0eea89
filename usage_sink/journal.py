"""The admission journal, as authz wrote it: one line per request let pass. Pure.

Lines are written by us with the fields in a fixed order, so that a pattern reads the
few that decide; only a line that becomes a row is read whole.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from runtime.contracts import Outcome, UsageSource
from runtime.contracts.access_log import ADMISSION_FIELDS
from runtime.values import value
from usage_sink.events import NotARequest, Rejected, Usage, UsageEvent, read

# Runs of plain characters at once: one by one they took most of the time.
_TEXT: Final = rb'"([^"\\\n]*(?:\\.[^"\\\n]*)*)"'
_LINE: Final = re.compile(
    rb'^\{"id":"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})",'
    rb'"start":"([0-9]{1,11})(\.[0-9]{6})",'
    rb'"node":' + _TEXT + rb',"incarnation":' + _TEXT + rb",.*\}$",
    re.MULTILINE,
)
_MINUTE_S: Final = 60

#: Texts of the groups of _LINE.
_Said = tuple[bytes, bytes, bytes, bytes, bytes]


@value
class Admission:
    """A request that was let pass; `line` is all that is known of it."""

    id: int  # as `UUID.int`
    start: str  # Unix seconds with six decimals, as in the row's key
    node: str
    incarnation: str
    line: bytes


class Admissions:
    """Those of a segment, in order; an object for each is made only when asked for."""

    def __init__(self, content: bytes) -> None:
        self._lines = [line for line in content.split(b"\n") if line]
        self._said: list[_Said] = _LINE.findall(content)
        self.torn = len(self._lines) - len(self._said)
        if self.torn:
            self._lines = [line for line in self._lines if _LINE.fullmatch(line)]
        self.ids = [_int(said[0]) for said in self._said]

    def lives(self) -> set[tuple[str, str]]:
        """Node and incarnation of each."""
        said = {(node, incarnation) for *_, node, incarnation in self._said}
        return {(_plain(node), _plain(incarnation)) for node, incarnation in said}

    def at(self, place: int) -> Admission:
        _, second, fraction, node, incarnation = self._said[place]
        return Admission(
            self.ids[place],
            (second + fraction).decode(),
            _plain(node),
            _plain(incarnation),
            self._lines[place],
        )

    def minutes(self, places: Iterable[int]) -> Counter[tuple[str, int]]:
        """How many of these, by node and by the Unix time of their minute."""
        said = self._said
        found = Counter[tuple[str, int]]()
        by_second = Counter([said[place][1:4:2] for place in places])
        for (second, node), count in by_second.items():
            found[_plain(node), int(second) // _MINUTE_S * _MINUTE_S] += count
        return found


def payload_of(admitted: Sequence[Admission]) -> bytes:
    """A spool entry of the kind UNSETTLED."""
    return b"\n".join(one.line for one in admitted)


def unsettled(
    payload: bytes,
) -> Iterator[tuple[str, UsageEvent | Rejected, Mapping[str, str]]]:
    """Node, event and what was said, of a spool entry of the kind UNSETTLED."""
    for line in payload.split(b"\n"):
        if line:
            said = _said(line)
            yield said.get("node", ""), _unsettled(said), said


def unsettled_events(payload: bytes) -> Iterator[UsageEvent | Rejected]:
    """The events of a spool entry of the kind UNSETTLED, in order."""
    for _, event, _ in unsettled(payload):
        yield event


def _int(id_: bytes) -> int:
    return int(id_.replace(b"-", b""), 16)


@lru_cache(maxsize=256)
def _plain(text: bytes) -> str:
    """Of a node or one of its lives: they are the same in thousands of lines."""
    found: str = json.loads(b'"' + text + b'"')
    return found


def _said(line: bytes) -> dict[str, str]:
    try:
        found = json.loads(line)
        return {name: str(found[name]) for name in ADMISSION_FIELDS if found.get(name)}
    except (ValueError, AttributeError, TypeError):
        return {"line": line.decode(errors="replace")}


def _unsettled(said: Mapping[str, str]) -> UsageEvent | Rejected:
    event = read(said)
    if isinstance(event, NotARequest):
        return Rejected("a line of the admission journal can't be read")
    if isinstance(event, Rejected):
        return event
    # Nobody knows how it ended or what it used, and nothing is guessed.
    return replace(
        event,
        outcome=Outcome.UNSETTLED,
        usage=Usage(UsageSource.ABSENT),
        is_ai=False,
    )
