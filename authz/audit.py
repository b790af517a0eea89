"""Every attempt as one JSON line: who asked for what, the verdict and why.

Never a token, never a query string. Lines of one turn of the loop are written
together: a line of its own, by the way of the process's log, would cost more than the
decision.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum

from authz.lines import known, quoted, quoted_or_null, template
from runtime.clock import Clock
from runtime.values import value

#: A hostile path must not fill the disk.
MAX_PATH_CHARACTERS = 512


class AuditScope(StrEnum):
    """Which attempts are written; all are counted."""

    ALL = "all"
    DENIED = "denied"


@value
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
        self._template = template(("time", *_FIELDS), {**stamp, **same})
        self._clock = clock
        self._write = write
        self._scope = scope
        self._lines: list[str] = []
        self._now = ""
        self._second = -1
        self._begins = ""

    def record(self, attempt: Attempt) -> None:
        if self._scope is AuditScope.DENIED and attempt.verdict == "allow":
            return
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
            self._now = self._time()  # of all lines of this turn
        self._lines.append(
            self._template
            % (
                *(self._now, known(attempt.verdict), known(attempt.reason)),
                *(quoted_or_null(attempt.user), known(attempt.role)),
                *(quoted_or_null(attempt.token_id), known(attempt.route)),
                *(quoted(attempt.method), quoted(attempt.path)),
                *(quoted(attempt.address), quoted_or_null(attempt.request_id)),
            )
        )

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self._write("\n".join(lines) + "\n")

    def _time(self) -> str:
        """Now, in UTC, as JSON; what a second begins with is kept."""
        now = self._clock.now()
        second = int(now)
        if second != self._second:
            self._second = second
            begins = datetime.fromtimestamp(second, UTC)
            self._begins = begins.strftime("%Y-%m-%dT%H:%M:%S")
        microseconds = int((now - second) * 1_000_000)
        rest = f".{microseconds:06d}" if microseconds else ""
        return f'"{self._begins}{rest}Z"'
