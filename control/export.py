"""What an export is: which rows, in which form, of which moment. Pure.

A snapshot names the last seal of every chain of the ledger. Rows never change and each
has its seal, so the same question of the same snapshot is answered with the same bytes
for ever: later, by another control, and from archives, too. That is how an export is
resumed (`skip` bytes of it) and why its manifest can be asked for at any time.
"""

import base64
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

from control.parameters import Reader, shown
from control.sight import Sight
from control.usage import COLUMNS, FILTERS, Statuses, UsageFilter, camel
from runtime.contracts import USAGE_EXPORT_FORMAT

#: Of the columns below: another number, another meaning.
SCHEMA_VERSION: Final = 1
MAX_SPAN: Final = timedelta(days=3_660)
_MAX_SKIP: Final = 10**15
_MAX_CHAINS: Final = 10_000
_PARAMETERS: Final = (*FILTERS, "format", "pseudonymize", "snapshot", "skip")
_SNAPSHOT: Final = re.compile(r"[A-Za-z0-9_-]{1,100000}", re.ASCII)

#: Of the row, and what was corrected of it later.
EXPORTED: Final = (*COLUMNS, "adjusted_tokens", "adjusted_credits")
#: Their names in a file.
NAMES: Final = tuple(map(camel, EXPORTED))


class Format(StrEnum):
    """What a file can be."""

    CSV = "csv"
    JSON = "json"
    NDJSON = "ndjson"
    PARQUET = "parquet"

    @property
    def media_type(self) -> str:
        return _MEDIA_TYPES[self]


_MEDIA_TYPES: Final = {
    Format.CSV: "text/csv; charset=utf-8",
    Format.JSON: "application/json",
    Format.NDJSON: "application/x-ndjson",
    Format.PARQUET: "application/vnd.apache.parquet",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The last seal of each chain; rows of other chains, and later ones, are not in it.

    `through` is what the ledger claimed then.
    """

    seals: Mapping[int, int]
    through: datetime | None = None

    def has(self, chain: int, seal: int) -> bool:
        return seal <= self.seals.get(chain, -1)

    def __str__(self) -> str:
        through = None if self.through is None else shown(self.through)
        text = json.dumps([through, sorted(self.seals.items())], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "Snapshot":
        """Raises ValueError: not one of ours."""
        try:
            if not _SNAPSHOT.fullmatch(text):
                raise ValueError  # noqa: TRY301 - one message for all
            padded = text + "=" * (-len(text) % 4)
            through, pairs = json.loads(base64.urlsafe_b64decode(padded))
            seals = {_int(chain, 31): _int(seal, 63) for chain, seal in pairs}
            at = None if through is None else datetime.fromisoformat(through)
            if len(seals) > _MAX_CHAINS or (at is not None and at.tzinfo is None):
                raise ValueError  # noqa: TRY301
        except (ValueError, TypeError, RecursionError):
            raise ValueError(
                "give the snapshot of an earlier export, unchanged"
            ) from None
        return cls(seals, None if at is None else at.astimezone(UTC))


def _int(value: object, bits: int) -> int:
    if type(value) is not int or not 0 <= value < 2**bits:
        raise ValueError
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportQuery:
    """What a file has; `snapshot` None: of now."""

    chosen: UsageFilter = field(default_factory=UsageFilter)
    format: Format = Format.CSV
    pseudonymize: bool = False
    hidden: tuple[str, ...] = ()
    snapshot: Snapshot | None = None
    #: Bytes of the file that the caller has already.
    skip: int = 0

    def within(self, seen: Sight) -> "ExportQuery":
        """The same, of nothing but what is `seen`."""
        return replace(self, chosen=self.chosen.within(seen), hidden=seen.hidden)

    def parameters(self) -> dict[str, str]:
        """Those that say which file this is, but not its snapshot."""
        chosen = self.chosen
        said = {
            "userId": chosen.user_id,
            "service": chosen.service,
            "model": chosen.model,
            "status": None if chosen.statuses is None else _status(chosen.statuses),
            "outcome": chosen.outcome,
            "startDate": None if chosen.start is None else shown(chosen.start),
            "endDate": None if chosen.end is None else shown(chosen.end),
            "pseudonymize": "true" if self.pseudonymize else None,
        }
        return {
            "format": self.format.value,
            **{name: str(value) for name, value in said.items() if value is not None},
        }


def parse_query(parameters: Mapping[str, str]) -> ExportQuery:
    """Raises BadParameters, naming every bad one."""
    reader = Reader(parameters, _PARAMETERS)
    chosen = UsageFilter.read(reader)
    if chosen.start and chosen.end and chosen.end - chosen.start > MAX_SPAN:
        reader.problem("startDate", f"give at most {MAX_SPAN.days} days")
    kind = reader.choice("format", tuple(Format))
    query = ExportQuery(
        chosen=chosen,
        format=Format.CSV if kind is None else Format(kind),
        pseudonymize=reader.flag("pseudonymize"),
        snapshot=reader.read("snapshot", Snapshot.parse),
        skip=reader.number("skip", 0, 0, _MAX_SKIP),
    )
    if query.skip and "snapshot" not in parameters:
        reader.problem("skip", "goes with the snapshot of the export that was begun")
    reader.done()
    return query


@dataclass(slots=True)
class Sums:
    """What the rows of a file add up to; corrections are in no sum but their own."""

    rows: int = 0
    tokens: int = 0
    credits: int = 0
    adjusted_tokens: int = 0
    adjusted_credits: int = 0

    def as_json(self) -> dict[str, int]:
        return {camel(name): getattr(self, name) for name in ("rows", *SUMMED)}


SUMMED: Final = ("tokens", "credits", "adjusted_tokens", "adjusted_credits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """By which anyone can check the file, `hubgate usage verify FILE` among them."""

    query: ExportQuery
    snapshot: Snapshot
    sums: Sums
    bytes: int
    sha256: str

    def as_json(self) -> dict[str, Any]:
        through = self.snapshot.through
        return {
            "format": USAGE_EXPORT_FORMAT,
            "file": self.query.format.value,
            **self.sums.as_json(),
            "bytes": self.bytes,
            "sha256": self.sha256,
            "completeThrough": None if through is None else shown(through),
            "schemaVersion": SCHEMA_VERSION,
            "columns": list(NAMES),
            "parameters": self.query.parameters(),
            "snapshot": str(self.snapshot),
        }


#: Told how it ended: with a manifest, or why not.
Ended = Callable[[Manifest | None, str], None]


class ArchiveUnavailable(Exception):
    """A day's rows are in an archive that is not here, or not what was noted."""


class Exporter(Protocol):
    """Makes files; raises StoreUnavailable, QueryTimeout or ArchiveUnavailable."""

    async def fixed(self, query: ExportQuery) -> ExportQuery:
        """The same of a snapshot: of now, when it names none."""

    def manifest_of(self, query: ExportQuery) -> Manifest | None:
        """When its file was made here not long ago."""

    async def manifest(self, query: ExportQuery, caller: str) -> Manifest:
        """Of the file that `query`, which names a snapshot, asks for.

        Raises:
            ApiError: 429, too many exports.
        """

    def stream(
        self, query: ExportQuery, caller: str, ended: Ended | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The file's bytes; the first only when the first rows were read.

        Raises:
            ApiError: 429, too many exports.
        """


def _status(statuses: Statuses) -> str:
    is_one = statuses.least == statuses.most
    return str(statuses.least) if is_one else f"{statuses.least // 100}xx"
