"""Text from the wire to bounded values, noting what had to be changed. Pure.

A count that a column can't hold is clamped and a text that is too long is cut: a
marked row is worth more than a refused one.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

INT4_MAX: Final = 2**31 - 1
INT8_MAX: Final = 2**63 - 1

#: Envoy's "no value".
_ABSENT: Final = ("", "-")
#: PostgreSQL text can't hold NUL, UTF-8 can't hold a lone surrogate.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_DIGITS: Final = re.compile(r"[0-9]+", re.ASCII)
#: Eleven digits reach the year 5138, well inside the calendar.
_START: Final = re.compile(r"([0-9]{1,11})(?:\.([0-9]{1,6}))?", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INT8_DIGITS: Final = 19


def clean(text: str) -> str:
    """Without what PostgreSQL can't store."""
    # The test costs a tenth of the substitution and is nearly always false.
    return _UNSTORABLE.sub("", text) if _UNSTORABLE.search(text) else text


def instant(text: str | None) -> datetime | None:
    """Unix seconds with up to six decimals, exact to the microsecond.

    Integer arithmetic only: `created_at` is part of the row's key, so every replay,
    over either transport, must give the identical instant.
    """
    match = _START.fullmatch(text or "")
    if match is None:
        return None
    microseconds = int((match[2] or "").ljust(6, "0"))
    return _EPOCH + timedelta(seconds=int(match[1]), microseconds=microseconds)


class Reader:
    """Reads one entry's attributes; `adjusted` names those it had to change."""

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self._attributes = attributes
        self.adjusted: list[str] = []

    def text(self, name: str, limit: int = 128) -> str | None:
        """The cleaned value, at most `limit` characters; None when absent."""
        raw = self._attributes.get(name, "")
        if raw in _ABSENT:
            return None
        value = clean(raw)
        if len(value) > limit:
            value = value[:limit]
        if value != raw:
            self.adjusted.append(name)
        return value or None

    def count(self, name: str, largest: int = INT4_MAX) -> int | None:
        """A number >= 0, at most `largest`; None when absent or not a number."""
        raw = self._attributes.get(name, "")
        if raw in _ABSENT:
            return None
        if _DIGITS.fullmatch(raw) is None:
            self.adjusted.append(name)
            return None
        # Longer texts are out of range anyway, and slow to convert.
        value = int(raw) if len(raw) <= _INT8_DIGITS else INT8_MAX
        if value > largest:
            self.adjusted.append(name)
            return largest
        return value
