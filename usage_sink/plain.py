"""Requests that are like others before them: most, with little work for each. Pure.

Where a batch lists `LOG_OWN` first, the rest of a body is one text, the same
for thousands of requests: route, method, status and all that has no value of each
request's own. What it says in the row is worked out once, by the way that any entry
goes (`events`, `records`); of each further one only its own texts are read.

Whatever is not as it nearly always is goes that way too: an AI call, a value that must
be changed, a session. So a plain record is the same row as it would be there
(`test_a_plain_record_is_the_row_that_it_would_be_without`).
"""

import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final
from uuid import UUID

from runtime.contracts.access_log import LOG_OWN, LOG_SEPARATOR
from usage_sink import copied, otlp
from usage_sink.events import (
    MOST_OF_LIMITS,
    MOST_OF_PATH,
    MOST_OF_USER,
    UsageEvent,
    limits_said,
    read,
)
from usage_sink.prices import FREE
from usage_sink.records import COMMON, OWN, Origin, Outline, UsageRecord, limit_texts
from usage_sink.tokens import NOTHING_SAID
from usage_sink.values import instant

#: `OWN` of a row, with the length of each.
_OWN: Final = struct.Struct(">i16siqiiiqiq")
_COMMON_AT: Final = slice(len(OWN), len(OWN) + len(COMMON))
_EACH_COMMON: Final = tuple(COMMON.values())
_ANY_ID: Final = str(UUID(int=0))
_ID_CHARACTERS: Final = 36
_ID_DIGITS: Final = 32
_FRACTION_DIGITS: Final = 6
#: Any such number fits its column.
_COUNT_DIGITS: Final = 9
_NONE: Final = "-"
_OTHERWISE_NOTHING: Final = frozenset({"", "- "})
#: Of LOG_OWN; the others must be nothing.
_READ: Final = 10
_NO_SESSION: Final = [_NONE] * (len(LOG_OWN) - _READ)
#: What the names of a batch begin with.
_FIRST: Final = ",".join((*LOG_OWN, ""))

_MOST_LAYOUTS: Final = 64
#: 1 KB each. As many as 2,000 routes have outcomes; AI calls pass through as well.
_MOST_FORMS: Final = 8192


@dataclass(slots=True)
class PlainRecord:
    """A row of no AI call. Never changed."""

    id: int  # as `UUID.int`
    day: date
    _copied: bytes
    _layout: "Layout"
    _body: str

    def copied(self) -> bytes:
        """As `UsageRecord.copied`."""
        return self._copied

    def whole(self) -> UsageRecord:
        return self._layout.whole(self._body)


Record = UsageRecord | PlainRecord


class Layouts:
    """Of the batches that come; `origin` says by the node's name who saw a request."""

    def __init__(self, origin: Callable[[str], Origin]) -> None:
        self._origin = origin
        self._layouts: dict[tuple[str, str], Layout] = {}

    def of(self, node: str, fields: str | None) -> "Layout | None":
        """None: its entries are read one by one."""
        if fields is None or not fields.startswith(_FIRST):
            return None
        layout = self._layouts.get((node, fields))
        if layout is None:
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            layout = Layout(otlp.names_of(fields), self._origin(node))
            self._layouts[node, fields] = layout
        return layout


@dataclass(frozen=True, slots=True)
class _Form:
    """What all rows with the same common texts have."""

    common: bytes
    outline: Outline


class Layout:
    """One node's batches with the same names, and the forms of what they said."""

    def __init__(self, names: list[str], origin: Origin) -> None:
        self._names = names
        self._origin = origin
        #: By the common texts; None: such entries are no plain ones.
        self._forms: OrderedDict[str, _Form | None] = OrderedDict()

    def record(self, body: str) -> PlainRecord | None:
        """None: read it as any other entry."""
        own = body.split(LOG_SEPARATOR, len(LOG_OWN))
        if len(own) <= len(LOG_OWN):
            return None
        common = own[-1]
        try:
            form = self._forms[common]
        except KeyError:
            form = self._learn(body, common)
        return None if form is None else self._filled(form, own, body)

    def whole(self, body: str) -> UsageRecord:
        """What a plain record of this body stands for."""
        event = read(otlp.of_body(self._names, body))
        if not isinstance(event, UsageEvent):  # it was one when it was read before
            raise TypeError(event)
        return UsageRecord(event, FREE, self._origin)

    def _learn(self, body: str, common: str) -> _Form | None:
        if len(self._forms) >= _MOST_FORMS:
            self._forms.popitem(last=False)
        form = self._forms[common] = self._form(body)
        return form

    def _form(self, body: str) -> _Form | None:
        attributes = otlp.of_body(self._names, body)
        if len(attributes) != len(self._names):
            return None
        attributes |= dict.fromkeys(LOG_OWN, _NONE) | {"id": _ANY_ID, "start": "0"}
        event = read(attributes)
        if not isinstance(event, UsageEvent) or not _is_plain(event):
            return None
        record = UsageRecord(event, FREE, self._origin)
        common = copied.fields(_EACH_COMMON, record.row()[_COMMON_AT])
        return _Form(common, record.outline())

    def _filled(self, form: _Form, own: list[str], body: str) -> PlainRecord | None:
        id_, start, duration, first_byte, received, sent, _, path, user, limits = own[
            :_READ
        ]
        seconds, _, fraction = start.partition(".")
        if not (
            own[_READ:-1] == _NO_SESSION
            and len(fraction) == _FRACTION_DIGITS
            and _are_digits(fraction + duration + received + sent)
            and _are_kept(path, user, limits)
        ):
            return None
        try:
            number, (second, day) = _number(id_), _second(seconds)
            duration_ms, bytes_sent = int(duration), int(sent)
            at, key = second + int(fraction), number.to_bytes(16, "big")
            numbers = _OWN.pack(
                16, key, 8, at, 4, duration_ms, 8, int(received), 8, bytes_sent
            )
            first_byte_ms = None if first_byte == _NONE else _first_byte(first_byte)
        except (ValueError, struct.error):  # not what it should be, or too much
            return None
        metadata = form.outline.filled(
            None if path == _NONE else path,
            duration_ms,
            bytes_sent,
            first_byte_ms,
            () if limits == _NONE else limit_texts(limits_said(limits)),
        )
        ends = copied.text(None if user == _NONE else user), copied.jsonb(metadata)
        row = b"".join((numbers, form.common, *ends))
        return PlainRecord(number, day, row, self, body)


def _is_plain(event: UsageEvent) -> bool:
    return not event.is_ai and event.usage is NOTHING_SAID and not event.adjusted


def _are_digits(text: str) -> bool:
    return text.isdigit() and text.isascii()


def _are_kept(path: str, user: str, limits: str) -> bool:
    """Each as it is, or "-"; none is what else stands for nothing (`values`)."""
    return (
        len(path) <= MOST_OF_PATH
        and len(user) <= MOST_OF_USER
        and len(limits) <= MOST_OF_LIMITS
        and (path + user + limits).isprintable()
        and "?" not in path
        and "#" not in path
        and path not in _OTHERWISE_NOTHING
        and user not in _OTHERWISE_NOTHING
        and limits not in _OTHERWISE_NOTHING
    )


def _number(id_: str) -> int:
    """`UUID.int` of an id as Envoy writes it. Raises ValueError."""
    digits = id_.replace("-", "")
    if len(id_) != _ID_CHARACTERS or len(digits) != _ID_DIGITS:
        raise ValueError(id_)
    return int(digits, 16)


def _first_byte(text: str) -> int:
    """Raises ValueError."""
    if len(text) > _COUNT_DIGITS or not _are_digits(text):
        raise ValueError(text)
    return int(text)


@lru_cache(maxsize=1024)
def _second(text: str) -> tuple[int, date]:
    """When it begins, as PostgreSQL counts, and its day.

    Raises:
        ValueError: it is no time.
    """
    at = instant(text)
    if at is None:
        raise ValueError(text)
    return copied.micros(at), at.date()
