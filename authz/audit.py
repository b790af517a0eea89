"""Every attempt as one JSON line: who asked for what, the verdict and why.

Never a token, never a query string. Lines of one turn of the loop are written
together: a line of its own, by the way of the process's log, would cost more than the
decision.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from operator import attrgetter

from authz.lines import Template
from runtime.clock import Clock

#: A hostile path must not fill the disk.
MAX_PATH_CHARACTERS = 512


class AuditScope(StrEnum):
    """Which attempts are written; all are counted."""

    ALL = "all"
    DENIED = "denied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is known of a request when it has been decided."""

    verdict: str
    reason: str
    user: str | None
    role: str
    token_id: str | None
    route: str
    method: str
    path: str
    address: str
    request_id: str | None


_FIELDS = tuple(field.name for field in fields(Attempt))
_values = attrgetter(*_FIELDS)


class Audit:
    """`stamp` says whose lines they are, as in every other log line."""

    def __init__(
        self,
        stamp: Mapping[str, str],
        clock: Clock,
        write: Callable[[str], object],
        scope: AuditScope = AuditScope.ALL,
    ) -> None:
        same = {"level": "info", "logger": "authz.audit", "event": "decision"}
        self._template = Template(("time", *_FIELDS), {**stamp, **same})
        self._clock = clock
        self._write = write
        self._scope = scope
        self._lines: list[str] = []

    def record(self, attempt: Attempt) -> None:
        if self._scope is AuditScope.DENIED and attempt.verdict == "allow":
            return
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        now = datetime.fromtimestamp(self._clock.now(), UTC).isoformat()
        line = self._template.line((now.replace("+00:00", "Z"), *_values(attempt)))
        self._lines.append(line)

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self._write("\n".join(lines) + "\n")
