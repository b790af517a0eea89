"""Is an exported file what its manifest says? Reads the file only, in pieces."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet as pq

from runtime.contracts import USAGE_EXPORT_FORMAT
from usage_sink import parquet
from usage_sink.errors import ArchiveDamaged

#: Names of a manifest that are sums over the column of that name.
_SUMS: Final = ("tokens", "credits", "adjustedTokens", "adjustedCredits")
#: Beside the file, unless another place is said.
SUFFIX: Final = ".manifest.json"


@dataclass(frozen=True, slots=True)
class Checked:
    """A figure as the manifest says it, and as the file has it."""

    name: str
    said: object
    found: object

    @property
    def is_good(self) -> bool:
        return self.said == self.found


def check(file: Path, manifest: Path) -> list[Checked]:
    """Each figure of the manifest beside that of the file.

    Raises:
        ArchiveDamaged: one of them can't be read as what it should be.
        OSError: it can't be read at all.
    """
    said = _manifest(manifest)
    figures: dict[str, object] = {
        "sha256": parquet.sha256(file),
        "bytes": file.stat().st_size,
    }
    # What differs in its bytes need not be readable any more.
    if figures["sha256"] == said["sha256"]:
        figures |= _sums(file, said)
    return [Checked(name, said[name], found) for name, found in figures.items()]


def _manifest(path: Path) -> Mapping[str, Any]:
    try:
        said = json.loads(path.read_text("utf-8"))
        if said["format"] != USAGE_EXPORT_FORMAT:
            raise ArchiveDamaged(f"{path}: another format than {USAGE_EXPORT_FORMAT}")
        missing = {"sha256", "bytes", "rows", "file", "columns", *_SUMS} - said.keys()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArchiveDamaged(f"{path} is no manifest: {error!r}") from None
    if missing:
        raise ArchiveDamaged(f"{path} says nothing of {', '.join(sorted(missing))}")
    found: Mapping[str, Any] = said
    return found


def _sums(file: Path, said: Mapping[str, Any]) -> dict[str, object]:
    totals = dict.fromkeys(("rows", *_SUMS), 0)
    try:
        for row in _rows(file, said["file"]):
            totals["rows"] += 1
            for name in _SUMS:
                totals[name] += int(row[name])
    except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise ArchiveDamaged(f"{file} is no {said['file']}: {error!r}") from None
    return dict(totals)


def _rows(file: Path, kind: str) -> Iterable[Mapping[str, Any]]:
    match kind:
        case "csv":
            return _of_csv(file)
        case "ndjson":
            return _of_lines(file)
        case "parquet":
            return _of_parquet(file)
        case "json":
            return _of_document(file)
        case _:
            raise ValueError("csv, json, ndjson or parquet was expected")


def _of_csv(file: Path) -> Iterator[Mapping[str, Any]]:
    with file.open(encoding="utf-8", newline="") as text:
        yield from csv.DictReader(text)


def _of_lines(file: Path) -> Iterator[Mapping[str, Any]]:
    with file.open(encoding="utf-8") as text:
        yield from map(json.loads, text)


def _of_document(file: Path) -> Iterator[Mapping[str, Any]]:
    """Each item has a line of its own, between the first line and the last."""
    with file.open(encoding="utf-8") as text:
        next(text, None)
        for line in text:
            if line.startswith("]"):
                return
            yield json.loads(line.rstrip(",\n"))


def _of_parquet(file: Path) -> Iterator[Mapping[str, Any]]:
    with pq.ParquetFile(file) as source:
        for batch in source.iter_batches(parquet.CHUNK_ROWS, columns=list(_SUMS)):
            yield from batch.to_pylist()
