"""What is said about the archive of one day, beside its files. Pure but for reading."""

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from usage_sink import parquet
from usage_sink.errors import ArchiveDamaged

_FORMAT: Final = "hubgate-usage-archive/1"


@dataclass(frozen=True, slots=True)
class Sums:
    """What the rows of a day add up to."""

    rows: int
    tokens: int
    credits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`file` has the rows of `day`, `seals_file` the seals that they carry."""

    day: date
    sums: Sums
    schema_version: str
    file: str
    sha256: str
    seals: int
    seals_file: str
    seals_sha256: str

    def to_json(self) -> str:
        values = {**asdict(self), "format": _FORMAT, "day": self.day.isoformat()}
        return json.dumps(values, indent=2, sort_keys=True) + "\n"

    def noted(self) -> tuple[int, int, int, str]:
        """What the database is told: rows, tokens, credits, SHA-256."""
        return self.sums.rows, self.sums.tokens, self.sums.credits, self.sha256

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Raises ValueError, KeyError or TypeError: it is none of ours."""
        values: dict[str, Any] = json.loads(text)
        if values.pop("format") != _FORMAT:
            raise ValueError(f"another format than {_FORMAT}")
        day, sums = date.fromisoformat(values.pop("day")), Sums(**values.pop("sums"))
        return cls(day=day, sums=sums, **values)


def usage_name(day: date) -> str:
    return f"usage-{day.isoformat()}.parquet"


def seals_name(day: date) -> str:
    return f"usage-{day.isoformat()}.seals.parquet"


def manifest_name(day: date) -> str:
    return f"usage-{day.isoformat()}.json"


def read(folder: Path, day: date) -> Manifest:
    """The manifest of `day`, whose files have the digests that it says.

    Raises:
        ArchiveDamaged: something is missing or has another content.
    """
    path = folder / manifest_name(day)
    try:
        found = Manifest.from_json(path.read_text("utf-8"))
        expected = {found.file: found.sha256, found.seals_file: found.seals_sha256}
        for name, digest in expected.items():
            if parquet.sha256(folder / name) != digest:
                raise ArchiveDamaged(f"{folder / name} is not what its manifest says")
    except OSError as error:
        raise ArchiveDamaged(f"{error.filename}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveDamaged(f"{path} is no manifest: {error}") from None
    if found.day != day:
        raise ArchiveDamaged(f"{path} is the manifest of {found.day}")
    return found
