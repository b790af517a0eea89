"""What exports need is loaded with the first of them, and once."""

import asyncio
import subprocess
import sys

from control.export import Exporter, Format, parse_query
from control.export_rows import MemoryExportRows
from control.exports import Exports
from control.late_exports import LateExports
from control.pseudonyms import MemoryPseudonyms
from control.store import MemoryUsageQueries
from runtime.clock import FakeClock


class Loader:
    def __init__(self) -> None:
        self.loads = 0

    def __call__(self) -> Exporter:
        self.loads += 1
        rows = MemoryExportRows(MemoryUsageQueries())
        return Exports(rows, MemoryPseudonyms(FakeClock()))


async def test_an_export_is_made_as_if_it_had_been_there_all_the_time() -> None:
    load = Loader()
    exports = LateExports(load)
    query = parse_query({"format": "csv"})
    before = load.loads
    known_before = exports.manifest_of(query)
    fixed, other = await asyncio.gather(exports.fixed(query), exports.fixed(query))
    content = b"".join([some async for some in exports.stream(fixed, "u-1")])
    manifest = await exports.manifest(fixed, "u-1")

    assert (before, known_before, load.loads) == (0, None, 1)
    assert other.format is Format.CSV
    assert manifest.bytes == len(content)
    assert exports.manifest_of(fixed) == manifest


def test_a_control_without_exports_does_not_load_what_they_need() -> None:
    code = "import sys, control.__main__; print('pyarrow' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert found.stdout == "False\n"
