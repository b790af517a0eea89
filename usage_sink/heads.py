"""The chain's heads, outside the database: one line of JSON each, appended.

Whoever can rewrite the whole database can't rewrite this file, and whoever restores
an older one is found by it. Lines are not fsynced one by one: a machine that loses
power may lose the last ones, and then vouches for a little less, never wrongly.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.logs import get_logger

log = get_logger(__name__)

#: In the spool's folder.
KEPT_HEADS: Final = "heads.jsonl"
#: About 100,000 heads; when there are more, older ones are thinned out.
_LIMIT_BYTES: Final = 16 * 1024 * 1024
_KEPT_WHOLE: Final = 20_000
_KEPT_OF: Final = 50


@dataclass(frozen=True, slots=True)
class Head:
    """The head of `chain` (its name) after `seal`."""

    chain: str
    seal: int
    head: bytes


class Heads:
    """A file of heads; several processes may append to it."""

    def __init__(self, path: Path, limit_bytes: int = _LIMIT_BYTES) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._is_failing = False

    def append(self, heads: Iterable[Head]) -> bool:
        """False when they could not be kept; the ledger goes on without."""
        text = "".join(_line(one) for one in heads)
        try:
            with self._locked() as file:
                os.write(file, text.encode())
                if os.fstat(file).st_size > self._limit_bytes:
                    self._thin(file)
        except OSError as error:
            if not self._is_failing:
                log.error("heads not kept outside the database", error=str(error))  # noqa: TRY400 - expected, no traceback
            self._is_failing = True
            return False
        self._is_failing = False
        return True

    @contextmanager
    def _locked(self) -> Iterator[int]:
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)

    def _thin(self, file: int) -> None:
        # In place, not by a new file: another process may wait for this one's lock.
        lines = self._path.read_bytes().splitlines(keepends=True)
        old, new = lines[:-_KEPT_WHOLE], lines[-_KEPT_WHOLE:]
        os.ftruncate(file, 0)
        os.write(file, b"".join((*old[::_KEPT_OF], *new)))


def read(path: Path) -> list[Head]:
    """Every head in the file; a line that was cut off vouches for nothing.

    Raises:
        OSError: there is no such file.
    """
    heads = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            values = json.loads(line)
            head = bytes.fromhex(values["head"])
            heads.append(Head(str(values["chain"]), int(values["seal"]), head))
        except (ValueError, KeyError, TypeError):
            log.warning("a line of the heads is not readable", file=str(path))
    return heads


def _line(head: Head) -> str:
    values = {"chain": head.chain, "seal": head.seal, "head": head.head.hex()}
    return json.dumps(values) + "\n"
