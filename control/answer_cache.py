"""Answers that took some reading, kept for as long as they hold.

An answer is kept with the state of the ledger that it was made from, and given again
only in that very state: whoever asks has read the state from the ledger just now. So
there is no time for which an answer may be stale.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

_MAX_BYTES: Final = 64 * 1024 * 1024


class AnswerCache:
    """The newest answers of one process, each to one question, as JSON."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept = OrderedDict[Hashable, tuple[str, bytes]]()

    def get(self, question: Hashable, state: str) -> bytes | None:
        """None: there is none, or the ledger has changed since."""
        kept = self._kept.get(question)
        if kept is None or kept[0] != state:
            return None
        self._kept.move_to_end(question)
        return kept[1]

    def put(self, question: Hashable, state: str, answer: bytes) -> None:
        """Keep it instead of what was kept for the question."""
        _, before = self._kept.pop(question, ("", b""))
        self._kept[question] = (state, answer)
        self._bytes += len(answer) - len(before)
        while self._bytes > self._max_bytes:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._bytes -= len(oldest)
