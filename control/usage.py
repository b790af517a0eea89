"""Rules of the usage API: what may be asked, by whom, and how a page is cut. Pure.

Pages are cut by (created_at, id), newest first: a row that arrives meanwhile neither
shifts nor repeats another. `startDate` is included. `endDate` is excluded when it is
an instant; when it is a day, that whole day (UTC) is included.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeVar
from uuid import UUID

from control.parse import Problem

T = TypeVar("T")

UsageRow = dict[str, Any]

COLUMNS = (
    *("id", "user_id", "service", "model", "tokens", "credits", "metadata"),
    *("created_at", "route", "method", "status", "outcome", "duration_ms"),
    *("bytes_received", "bytes_sent", "input_tokens", "output_tokens"),
    *("cached_tokens", "usage_source", "pricing", "price_version", "role", "node"),
    *("recorded_at", "reasoning_tokens", "billable"),
)

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
#: Deeper pages go by cursor: an offset reads all it skips.
MAX_OFFSET = 10_000
MAX_TEXT = 256

_PARAMETERS = frozenset(
    {"userId", "service", "model", "startDate", "endDate", "limit", "cursor", "offset"}
)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_CURSOR = re.compile(r"(\d{1,18})\.([0-9a-f]{32})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BadParameters(ValueError):
    """Carries every problem."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(map(str, problems)))


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of the page before."""

    created_at: datetime
    id: UUID

    def __str__(self) -> str:
        micros = (self.created_at - _EPOCH) // timedelta(microseconds=1)
        text = f"{micros}.{self.id.hex}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Raises ValueError: not one of ours."""
        padded = text + "=" * (-len(text) % 4)
        try:
            match = _CURSOR.fullmatch(base64.urlsafe_b64decode(padded).decode())
        except (binascii.Error, UnicodeDecodeError, ValueError):
            match = None
        if match is None:
            raise ValueError("give the nextCursor of an earlier answer, unchanged")
        return cls(_EPOCH + timedelta(microseconds=int(match[1])), UUID(match[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """Which rows; None means any."""

    user_id: str | None = None
    service: str | None = None
    model: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    limit: int = DEFAULT_LIMIT
    cursor: Cursor | None = None
    offset: int = 0

    def matches(self, row: UsageRow) -> bool:
        """The rule that the SQL of the store says in its way."""
        at = row["created_at"]
        return (
            all(
                wanted is None or row[column] == wanted
                for column, wanted in self.equalities().items()
            )
            and (self.start is None or at >= self.start)
            and (self.end is None or at < self.end)
            and (
                self.cursor is None
                or (at, row["id"]) < (self.cursor.created_at, self.cursor.id)
            )
        )

    def equalities(self) -> dict[str, str | None]:
        return {"user_id": self.user_id, "service": self.service, "model": self.model}


def parse_query(parameters: Mapping[str, str]) -> UsageQuery:
    """The query that the parameters ask for.

    Raises:
        BadParameters: naming every bad one.
    """
    reader = _Reader(parameters)
    query = UsageQuery(
        user_id=reader.text("userId"),
        service=reader.text("service"),
        model=reader.text("model"),
        start=reader.read("startDate", instant_of),
        end=reader.read("endDate", _end),
        limit=reader.number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT),
        cursor=reader.read("cursor", Cursor.parse),
        offset=reader.number("offset", 0, 0, MAX_OFFSET),
    )
    if reader.problems:
        raise BadParameters(reader.problems)
    return query


def page(
    query: UsageQuery, rows: list[UsageRow], through: datetime | None
) -> dict[str, Any]:
    """The answer; of what ended after `through`, rows may still be on their way."""
    shown = rows[: query.limit]
    has_more = len(rows) > query.limit
    last = shown[-1] if shown else None
    cursor = Cursor(last["created_at"], last["id"]) if last and has_more else None
    return {
        "items": [_item(row) for row in shown],
        "nextCursor": str(cursor) if cursor is not None else None,
        "completeThrough": _shown(through),
    }


def _item(row: UsageRow) -> dict[str, Any]:
    return {_camel(name): _shown(row[name]) for name in COLUMNS}


def _shown(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value) if isinstance(value, UUID) else value


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _end(text: str) -> datetime:
    at = instant_of(text)
    return at + timedelta(days=1) if _DAY.fullmatch(text) else at


def instant_of(text: str) -> datetime:
    """A day (its first instant, UTC) or an instant; raises ValueError."""
    try:
        if _DAY.fullmatch(text):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        # A `+` that was not escaped arrives as a space.
        at = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise ValueError(
            "give a day or an instant, such as 2026-01-31 or 2026-01-31T08:00:00Z"
        ) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


class _Reader:
    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._parameters = parameters
        known = ", ".join(sorted(_PARAMETERS))
        self.problems = [
            Problem(name, f"no such parameter; there are {known}")
            for name in parameters
            if name not in _PARAMETERS
        ]

    def text(self, name: str) -> str | None:
        return self.read(name, _plain)

    def number(self, name: str, default: int, least: int, most: int) -> int:
        def read(text: str) -> int:
            if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
                raise ValueError(f"give a whole number from {least} to {most}")
            return int(text)

        found = self.read(name, read)
        return default if found is None else found

    def read(self, name: str, parse: Callable[[str], T]) -> T | None:
        text = self._parameters.get(name)
        if text is None:
            return None
        try:
            return parse(text)
        except (ValueError, OverflowError) as error:
            self.problems.append(Problem(name, str(error), given=text[:MAX_TEXT]))
            return None


def _plain(text: str) -> str:
    if not 0 < len(text) <= MAX_TEXT or not text.isprintable():
        raise ValueError(f"give 1 to {MAX_TEXT} printable characters")
    return text
