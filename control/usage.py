"""Rules of the usage API: what may be asked, by whom, and how a page is cut. Pure.

Pages are cut by (created_at, id), newest first: a row that arrives meanwhile neither
shifts nor repeats another. `startDate` is included. `endDate` is excluded when it is
an instant; when it is a day, that whole day (UTC) is included.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from control.parameters import Reader, end_of, instant_of, shown
from control.sight import Sight
from runtime.contracts import Outcome

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

#: Parameters that say which rows.
FILTERS = (
    *("userId", "service", "model", "status", "outcome", "startDate", "endDate"),
)
_PARAMETERS = (
    *FILTERS,
    *("limit", "cursor", "offset", "sort", "fields", "aggregate"),
)
_FAILED: Final = 400
_STATUS = re.compile(r"([1-5])xx|([1-5]\d\d)", re.ASCII)
_CURSOR = re.compile(r"(\d{1,18})\.([0-9a-f]{32})", re.ASCII)
#: base64 passes over all else in silence.
_BASE64 = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of the page before."""

    created_at: datetime
    id: UUID

    @property
    def place(self) -> tuple[datetime, UUID]:
        return self.created_at, self.id

    def __str__(self) -> str:
        micros = (self.created_at - _EPOCH) // timedelta(microseconds=1)
        text = f"{micros}.{self.id.hex}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Raises ValueError: not one of ours."""
        padded = text + "=" * (-len(text) % 4)
        match = None
        if _BASE64.fullmatch(text):
            with suppress(binascii.Error, UnicodeDecodeError):
                match = _CURSOR.fullmatch(base64.urlsafe_b64decode(padded).decode())
        if match is None:
            raise ValueError("give the nextCursor of an earlier answer, unchanged")
        return cls(_EPOCH + timedelta(microseconds=int(match[1])), UUID(match[2]))


class Sort(StrEnum):
    """By time, then id."""

    NEWEST = "-createdAt"
    OLDEST = "createdAt"


@dataclass(frozen=True, slots=True)
class Statuses:
    """HTTP statuses from `least` to `most`."""

    least: int
    most: int

    @property
    def is_class(self) -> bool:
        """All that begin with one digit."""
        return self.least % 100 == 0 and self.most == self.least + 99

    @classmethod
    def parse(cls, text: str) -> "Statuses":
        """`"404"` or `"4xx"`; raises ValueError."""
        match = _STATUS.fullmatch(text)
        if match is None:
            raise ValueError("give a status from 100 to 599, or a class such as 4xx")
        if match[1] is not None:
            return cls(int(match[1]) * 100, int(match[1]) * 100 + 99)
        return cls(int(text), int(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageFilter:
    """Which rows; None means any. `end` is excluded."""

    user_id: str | None = None
    #: Of several; beside `user_id`.
    user_ids: frozenset[str] | None = None
    service: str | None = None
    model: str | None = None
    statuses: Statuses | None = None
    outcome: Outcome | None = None
    start: datetime | None = None
    end: datetime | None = None

    @classmethod
    def read(cls, reader: Reader) -> "UsageFilter":
        """What the parameters in FILTERS say."""
        outcome = reader.choice("outcome", tuple(Outcome))
        found = cls(
            user_id=reader.text("userId"),
            service=reader.text("service"),
            model=reader.text("model"),
            statuses=reader.read("status", Statuses.parse),
            outcome=None if outcome is None else Outcome(outcome),
            start=reader.read("startDate", instant_of),
            end=reader.read("endDate", end_of),
        )
        if found.start and found.end and found.start > found.end:
            reader.problem("startDate", "give one that is not after endDate")
        return found

    @property
    def is_of_failed(self) -> bool:
        """Only of what went wrong: such rows are few, and have an index."""
        statuses, outcome = self.statuses, self.outcome
        by_status = statuses is not None and statuses.least >= _FAILED
        return by_status or outcome not in (None, Outcome.OK)

    def within(self, seen: Sight) -> "UsageFilter":
        """The same question, about nothing but what is `seen`."""
        several = None if seen.subject is not None else seen.user_ids
        return replace(self, user_id=seen.subject, user_ids=several)

    def matches(self, row: UsageRow) -> bool:
        """The rule that the SQL of the store says in its way."""
        at, statuses = row["created_at"], self.statuses
        return (
            all(
                wanted is None or row[column] == wanted
                for column, wanted in self.equalities().items()
            )
            and (self.user_ids is None or row["user_id"] in self.user_ids)
            and (statuses is None or statuses.least <= row["status"] <= statuses.most)
            and (self.start is None or at >= self.start)
            and (self.end is None or at < self.end)
        )

    def equalities(self) -> dict[str, str | None]:
        return {
            "user_id": self.user_id,
            "service": self.service,
            "model": self.model,
            "outcome": self.outcome,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """A page of the rows that `chosen` says, behind `cursor`."""

    chosen: UsageFilter = UsageFilter()
    limit: int = DEFAULT_LIMIT
    cursor: Cursor | None = None
    offset: int = 0
    sort: Sort = Sort.NEWEST
    columns: tuple[str, ...] = COLUMNS
    #: Also the totals of all that `chosen` says.
    aggregate: bool = False

    def is_behind_cursor(self, row: UsageRow) -> bool:
        if self.cursor is None:
            return True
        place, last = (row["created_at"], row["id"]), self.cursor.place
        return place < last if self.sort is Sort.NEWEST else place > last


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What rows add up to, with the corrections that were made of them.

    `adjusted_tokens` and `adjusted_credits` are those corrections: they are in
    `tokens` and `credits`, too. Rows of `archived_days` days are in archives only, and
    not among them.
    """

    requests: int = 0
    errors: int = 0
    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    credits: int = 0
    duration_ms: int = 0
    adjusted_tokens: int = 0
    adjusted_credits: int = 0
    archived_days: int = 0

    def as_json(self) -> dict[str, int]:
        return {camel(name): getattr(self, name) for name in TOTALS}


TOTALS: Final = tuple(Totals.__dataclass_fields__)


def parse_query(
    parameters: Mapping[str, str], known: Sequence[str] = _PARAMETERS
) -> UsageQuery:
    """The query that the parameters ask for.

    Raises:
        BadParameters: naming every bad one.
    """
    reader = Reader(parameters, known)
    fields = reader.choices("fields", tuple(_FIELDS))
    sort = reader.choice("sort", tuple(Sort))
    query = UsageQuery(
        chosen=UsageFilter.read(reader),
        limit=reader.number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT),
        cursor=reader.read("cursor", Cursor.parse),
        offset=reader.number("offset", 0, 0, MAX_OFFSET),
        sort=Sort.NEWEST if sort is None else Sort(sort),
        columns=COLUMNS if fields is None else tuple(_FIELDS[one] for one in fields),
        aggregate=reader.flag("aggregate"),
    )
    reader.done()
    return query


def parse_query_of_user(user_id: str, parameters: Mapping[str, str]) -> UsageQuery:
    """The same for one user, whom the path names.

    Raises:
        BadParameters: naming every bad one.
    """
    known = tuple(name for name in _PARAMETERS if name != "userId")
    query = parse_query(parameters, known)
    reader = Reader({"id": user_id}, ("id",))
    chosen = replace(query.chosen, user_id=reader.text("id"))
    reader.done()
    return replace(query, chosen=chosen)


def page(
    query: UsageQuery, rows: Sequence[UsageRow], through: datetime | None, seen: Sight
) -> dict[str, Any]:
    """The answer; of what ended after `through`, rows may still be on their way."""
    shown_rows = rows[: query.limit]
    last = shown_rows[-1] if len(rows) > query.limit else None
    cursor = None if last is None else Cursor(last["created_at"], last["id"])
    return {
        "items": [_item(query.columns, row, seen) for row in shown_rows],
        "nextCursor": str(cursor) if cursor is not None else None,
        "completeThrough": plain(through),
    }


def _item(columns: Sequence[str], row: UsageRow, seen: Sight) -> dict[str, Any]:
    item = {camel(name): plain(row[name]) for name in columns}
    if "metadata" in item:
        item["metadata"] = seen.metadata(row["metadata"])
    return item


def plain(value: object) -> object:
    """A column's value as JSON has it."""
    if isinstance(value, datetime):
        return shown(value)
    return str(value) if isinstance(value, UUID) else value


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


#: Name in the API -> column.
_FIELDS: Final = {camel(name): name for name in COLUMNS}
