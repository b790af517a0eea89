"""`verify FILE` against files as control makes them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner

from control.export import EXPORTED, ExportQuery, Format
from control.export_rows import MemoryExportRows
from control.exports import Exports
from control.pseudonyms import MemoryPseudonyms
from control.store import MemoryUsageQueries
from local.ledger import place
from runtime.clock import FakeClock
from usage_sink.errors import ArchiveDamaged
from usage_sink.exported import SUFFIX
from usage_sink.tools.__main__ import tools

AT = datetime(2026, 1, 31, tzinfo=UTC)


def a_row(number: int) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(EXPORTED)
    return {
        **row,
        "id": UUID(int=number),
        "created_at": AT,
        "recorded_at": AT,
        "tokens": number,
        "credits": 2,
        "metadata": {"request": {"a": 'ä",\n'}},
        "adjusted_tokens": 0,
        "adjusted_credits": -1,
        "status": 200,
    }


async def an_export(folder: Path, kind: Format) -> tuple[Path, Path]:
    """A file of three rows, and its manifest beside it."""
    usage = MemoryUsageQueries([a_row(n) for n in range(3)])
    exports = Exports(MemoryExportRows(usage), MemoryPseudonyms(FakeClock()))
    query = await exports.fixed(ExportQuery(format=kind))
    file = folder / f"usage.{kind}"
    file.write_bytes(b"".join([one async for one in exports.stream(query, "")]))
    manifest = folder / f"{file.name}{SUFFIX}"
    manifest.write_text(json.dumps((await exports.manifest(query, "")).as_json()))
    return file, manifest


@pytest.mark.parametrize("kind", Format)
async def test_an_exported_file_is_what_its_manifest_says(
    tmp_path: Path, kind: Format
) -> None:
    file, _ = await an_export(tmp_path, kind)
    said = CliRunner().invoke(tools, ["verify", str(file)])

    assert said.exit_code == 0, said.output
    lines = dict(line.split()[1:] for line in said.output.splitlines())
    assert (lines["rows"], lines["tokens"], lines["credits"]) == ("3", "3", "6")
    assert lines["adjustedCredits"] == "-3"


async def test_a_json_file_is_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = await an_export(tmp_path, Format.JSON)
    size, read, lengths = file.stat().st_size, json.loads, list[int]()

    def measured(text: str) -> Any:
        lengths.append(len(text))
        return read(text)

    monkeypatch.setattr("usage_sink.exported.json.loads", measured)
    said = CliRunner().invoke(tools, ["verify", str(file)])

    assert said.exit_code == 0, said.output
    # But for the manifest: a row each.
    assert len(lengths) == 4
    assert max(lengths[1:]) < size / 2


async def test_a_changed_byte_and_a_changed_figure_are_found(tmp_path: Path) -> None:
    file, manifest = await an_export(tmp_path, Format.CSV)
    kept = file.read_bytes()
    file.write_bytes(kept.replace(b"200", b"201", 1))
    changed = CliRunner().invoke(tools, ["verify", str(file)])
    file.write_bytes(kept)
    manifest.write_text(manifest.read_text().replace('"credits": 6', '"credits": 7'))
    lied = CliRunner().invoke(tools, ["verify", str(file)])

    assert (changed.exit_code, lied.exit_code) == (1, 1)
    assert "BAD   sha256" in changed.output
    assert "BAD   credits         6, the manifest says 7" in lied.output


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other"}', "\0"])
async def test_what_is_no_manifest_is_said_so(tmp_path: Path, text: str) -> None:
    file, manifest = await an_export(tmp_path, Format.NDJSON)
    manifest.write_text(text)
    said = CliRunner().invoke(tools, ["verify", str(file)])

    assert isinstance(said.exception, ArchiveDamaged)


def test_a_file_is_checked_without_a_running_stack() -> None:
    assert place(["verify", "usage.csv"], {}, None) == {}
    assert place(["verify", "--deep", "a", "--manifest", "b"], {}, None) == {}
    assert place(["verify", "--manifest=b", "a"], {}, None) == {}
    assert place(["verify", "--", "a"], {}, None) == {}
