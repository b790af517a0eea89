"""Text from the wire to bounded values, noting what had to be changed. Pure.

A count that a column can't hold is clamped and a text that is too long is cut: a
marked row is worth more than a refused one.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

INT4_MAX: Final = 2**31 - 1
INT8_MAX: Final = 2**63 - 1

#: Envoy's "no value"; the last where a space keeps the file log's value a text.
_ABSENT: Final = frozenset({"-", "", "- "})
_NOTHING: Final[frozenset[str | None]] = _ABSENT | {None}
#: PostgreSQL text can't hold NUL, UTF-8 can't hold a lone surrogate.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
#: Eleven digits reach the year 5138, well inside the calendar.
_SECONDS_DIGITS: Final = 11
_INT8_DIGITS: Final = 19
_MICROSECOND: Final = timedelta(microseconds=1)


def clean(text: str) -> str:
    """Without what PostgreSQL can't store."""
    # The test costs a tenth of the substitution and is nearly always false.
    return _UNSTORABLE.sub("", text) if _UNSTORABLE.search(text) else text


def instant(text: str | None) -> datetime | None:
    """Unix seconds with up to six decimals, exact to the microsecond.

    Integer arithmetic only: `created_at` is part of the row's key, so every replay,
    over either transport, must give the identical instant.
    """
    seconds, _, decimals = (text or "").partition(".")
    whole = _second(seconds)
    if whole is None or (decimals and not _is_number(decimals, 6)):
        return None
    return whole + _MICROSECOND * int(decimals.ljust(6, "0"))


@lru_cache(maxsize=1024)
def _second(text: str) -> datetime | None:
    """The instant at which a second begins: many entries have the same."""
    if not _is_number(text, _SECONDS_DIGITS):
        return None
    return datetime.fromtimestamp(int(text), UTC)


def _is_number(text: str, digits: int) -> bool:
    return len(text) <= digits and text.isdigit() and text.isascii()


class Reader:
    """Reads one entry's attributes; `adjusted` names those it had to change."""

    __slots__ = ("_attributes", "adjusted")

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self._attributes = attributes
        self.adjusted: list[str] = []

    def has_any(self, names: Iterable[str]) -> bool:
        """One of `names` at least has a value."""
        return not _NOTHING.issuperset(map(self._attributes.get, names))

    def text(self, name: str, limit: int = 128) -> str | None:
        """The cleaned value, at most `limit` characters; None when absent."""
        raw = self._attributes.get(name)
        if raw is None or raw in _ABSENT:
            return None
        if len(raw) <= limit and raw.isprintable():
            return raw  # nearly always, and nothing that PostgreSQL can't store
        value = clean(raw)
        if len(value) > limit:
            value = value[:limit]
        if value != raw:
            self.adjusted.append(name)
        return value or None

    def count(self, name: str, largest: int = INT4_MAX) -> int | None:
        """A number >= 0, at most `largest`; None when absent or not a number."""
        raw = self._attributes.get(name)
        if raw is None:
            return None
        if not (raw.isdigit() and raw.isascii()):
            if raw not in _ABSENT:
                self.adjusted.append(name)
            return None
        # Longer texts are out of range anyway, and slow to convert.
        value = int(raw) if len(raw) <= _INT8_DIGITS else INT8_MAX
        if value > largest:
            self.adjusted.append(name)
            return largest
        return value
