"""What the user sees, written by threads so that a full pipe blocks no one else."""

import contextlib
import json
import os
import select
import threading
from collections import deque
from enum import Enum

_QUEUE_LINES = 10_000
_NAME_WIDTH = 13
_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
#: Shown in front, or known to who looks at this console.
_IN_FRONT_OR_CLEAR = frozenset(
    ("level", "event", "service", "node", "time", "logger", "color_message")
)
STDOUT, STDERR = 1, 2


class Style(Enum):
    """How log lines look."""

    PLAIN = "plain"
    COLOUR = "colour"
    JSON = "json"


class Outlet:
    """One file descriptor with a bounded queue and its own writer thread."""

    def __init__(self, fd: int, limit: int = _QUEUE_LINES) -> None:
        self._fd = fd
        self._limit = limit
        self._lines: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._write_all, daemon=True)
        self._thread.start()

    def put(self, *lines: bytes, essential: bool = False) -> None:
        """Queue lines; when the reader is too slow they are counted, not kept."""
        with self._changed:
            room = self._limit - len(self._lines)
            if self._closed:
                room = 0
            elif essential:
                room = len(lines)
            kept = lines[: max(0, room)]
            self._lines.extend(kept)
            self.dropped += len(lines) - len(kept)
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Write what is queued, but wait no longer than this for the reader."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _write_all(self) -> None:
        try:
            while batch := self._next_batch():
                self._write(batch)
        except OSError:  # the reader is gone; the logs are in files too
            self._closed = True

    def _next_batch(self) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._closed)
            batch = b"".join(self._lines)
            self._lines.clear()
            return batch

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # somebody made the terminal non-blocking
                select.select([], [self._fd], [])


class Console:
    """Log lines of all processes, each with the name of its process.

    With JSON, standard output starts with the ready line: earlier logs go to
    standard error.
    """

    def __init__(self, style: Style, *, stdout: int = STDOUT, stderr: int = STDERR):
        self._style = style
        self._stdout = Outlet(stdout)
        self._stderr = Outlet(stderr)
        self._logs = self._stderr if style is Style.JSON else self._stdout
        self._reported = 0
        self._colours: dict[str, int] = {}

    def log(self, name: str, *texts: str) -> None:
        """Show lines of a process."""
        lost = self._logs.dropped - self._reported
        if lost:
            self._reported = self._logs.dropped
            self._put("hubgate", f"{lost} lines dropped here: the reader is too slow")
        self._put(name, *texts)

    def note(self, text: str) -> None:
        """Show one line of the supervisor's own."""
        self.log("hubgate", text)

    def ready(self, text: str) -> None:
        """Show what everyone waits for; it is never dropped."""
        self._stdout.put(f"{text}\n".encode(), essential=True)
        self._logs = self._stdout

    def close(self, timeout_s: float = 1.0) -> None:
        self._stdout.close(timeout_s)
        self._stderr.close(timeout_s)

    def _put(self, name: str, *texts: str) -> None:
        rendered = (self._render(name, text) for text in texts)
        self._logs.put(*(line.encode(errors="replace") for line in rendered))

    def _render(self, name: str, text: str) -> str:
        match self._style:
            case Style.JSON:
                # Most lines are of this form already, hundreds in a second.
                if _is_object(text):
                    return f'{{"process": {json.dumps(name)}, {text[1:]}\n'
                return json.dumps({"process": name, **_fields(text)}) + "\n"
            case Style.COLOUR:
                colour = self._colours.setdefault(
                    name, _COLOURS[len(self._colours) % len(_COLOURS)]
                )
                prefix = f"\x1b[{colour}m{name:<{_NAME_WIDTH}}|\x1b[0m"
                return f"{prefix} {_readable(text)}\n"
            case Style.PLAIN:
                return f"{name:<{_NAME_WIDTH}}| {_readable(text)}\n"


def _readable(text: str) -> str:
    """A JSON log line as people read it: level, event, the rest; other text as is."""
    fields = _fields(text)
    if "level" not in fields:
        return text
    details = [f"{k}={v}" for k, v in fields.items() if k not in _IN_FRONT_OR_CLEAR]
    return " ".join([str(fields["level"]), str(fields.get("event", "")), *details])


def _is_object(text: str) -> bool:
    """Whether it is JSON with members, and ends where the object ends."""
    if not (text.startswith('{"') and text.endswith("}")):
        return False
    with contextlib.suppress(ValueError):
        return isinstance(json.loads(text), dict)
    return False


def _fields(text: str) -> dict[str, object]:
    if text.startswith("{"):
        with contextlib.suppress(ValueError):
            fields = json.loads(text)
            if isinstance(fields, dict):
                return fields
    return {"event": text}
