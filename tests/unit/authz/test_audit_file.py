from pathlib import Path

from authz.audit_file import AuditFile
from runtime.clock import FakeClock
from runtime.metrics import Metrics
from runtime.rotated_file import RotatedFile


def test_lines_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    metrics, folder = Metrics(), tmp_path / "later"
    audit = AuditFile(RotatedFile(folder / "a", 100, FakeClock()), metrics)
    audit.write("one\ntwo\n")
    folder.mkdir()
    audit.write("three\n")

    def counted(result: str) -> float:
        return metrics.value("hubgate_authz_audit_lines_total", result=result)

    assert (folder / "a").read_text() == "three\n"
    assert (counted("lost"), counted("written")) == (2, 1)
