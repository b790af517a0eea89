"""Rules of the usage API: what may be asked, by whom, and how a page is cut. Pure.

Pages are cut by (created_at, id), newest first: a row that arrives meanwhile neither
shifts nor repeats another. `startDate` is included. `endDate` is excluded when it is
an instant; when it is a day, that whole day (UTC) is included.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from control.parameters import BadParameters, Reader, end_of, instant_of, shown
from control.sight import Sight

__all__ = ["BadParameters", "instant_of"]  # where others look for them

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

_PARAMETERS = (
    *(
        "userId",
        "service",
        "model",
        "startDate",
        "endDate",
        "limit",
        "cursor",
        "offset",
    ),
)
_CURSOR = re.compile(r"(\d{1,18})\.([0-9a-f]{32})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    #: Of several; beside `user_id`.
    user_ids: frozenset[str] | None = None
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
            and (self.user_ids is None or row["user_id"] in self.user_ids)
            and (self.start is None or at >= self.start)
            and (self.end is None or at < self.end)
            and (
                self.cursor is None
                or (at, row["id"]) < (self.cursor.created_at, self.cursor.id)
            )
        )

    def within(self, seen: Sight) -> "UsageQuery":
        """The same question, about nothing but what is `seen`."""
        several = None if seen.subject is not None else seen.user_ids
        return replace(self, user_id=seen.subject, user_ids=several)

    def equalities(self) -> dict[str, str | None]:
        return {"user_id": self.user_id, "service": self.service, "model": self.model}


def parse_query(parameters: Mapping[str, str]) -> UsageQuery:
    """The query that the parameters ask for.

    Raises:
        BadParameters: naming every bad one.
    """
    reader = Reader(parameters, _PARAMETERS)
    query = UsageQuery(
        user_id=reader.text("userId"),
        service=reader.text("service"),
        model=reader.text("model"),
        start=reader.read("startDate", instant_of),
        end=reader.read("endDate", end_of),
        limit=reader.number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT),
        cursor=reader.read("cursor", Cursor.parse),
        offset=reader.number("offset", 0, 0, MAX_OFFSET),
    )
    reader.done()
    return query


def page(
    query: UsageQuery, rows: list[UsageRow], through: datetime | None, seen: Sight
) -> dict[str, Any]:
    """The answer; of what ended after `through`, rows may still be on their way."""
    shown_rows = rows[: query.limit]
    has_more = len(rows) > query.limit
    last = shown_rows[-1] if shown_rows else None
    cursor = Cursor(last["created_at"], last["id"]) if last and has_more else None
    return {
        "items": [_item(row, seen) for row in shown_rows],
        "nextCursor": str(cursor) if cursor is not None else None,
        "completeThrough": _shown(through),
    }


def _item(row: UsageRow, seen: Sight) -> dict[str, Any]:
    item = {_camel(name): _shown(row[name]) for name in COLUMNS}
    return {**item, "metadata": seen.metadata(row["metadata"])}


def _shown(value: object) -> object:
    if isinstance(value, datetime):
        return shown(value)
    return str(value) if isinstance(value, UUID) else value


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
