"""Answers that took some reading, kept for as long as they hold.

An answer is kept with the state of the ledger that it was made from, and given again
only in that very state: whoever asks has read the state from the ledger just now. So
there is no time for which an answer may be stale.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final

_ENTRIES: Final = 512


class AnswerCache:
    """The newest answers of one process, each to one question."""

    def __init__(self, entries: int = _ENTRIES) -> None:
        self._entries = entries
        self._kept = OrderedDict[Hashable, tuple[str, Any]]()

    def get(self, question: Hashable, state: str) -> Any | None:
        """None: there is none, or the ledger has changed since."""
        kept = self._kept.get(question)
        if kept is None or kept[0] != state:
            return None
        self._kept.move_to_end(question)
        return kept[1]

    def put(self, question: Hashable, state: str, answer: Any) -> None:
        self._kept[question] = (state, answer)
        self._kept.move_to_end(question)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)
