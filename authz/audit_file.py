"""Audit lines to a file: nobody has to read them for requests to be decided.

Handed to the kernel in the loop turn of the answer, so that they survive the end of
this process. A file that can't be written never holds a request up.
"""

from runtime.logs import get_logger
from runtime.metrics import Metrics
from runtime.rotated_file import RotatedFile

log = get_logger(__name__)


class AuditFile:
    """`write` never raises; what could not be kept is counted."""

    def __init__(self, file: RotatedFile, metrics: Metrics) -> None:
        self._file = file
        self._metrics = metrics
        self._is_failing = False

    def write(self, lines: str) -> None:
        result = "lost"
        try:
            self._file.write(lines.encode())
        except OSError as error:
            if not self._is_failing:
                log.error("requests are decided without audit lines", why=str(error))  # noqa: TRY400 - expected, no traceback
            self._is_failing = True
        else:
            if self._is_failing:
                log.warning("audit lines are written again")
            self._is_failing = False
            result = "written"
        count = lines.count("\n")
        self._metrics.inc("hubgate_authz_audit_lines_total", count, result=result)
