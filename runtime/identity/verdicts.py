"""What Redis said of a key, and for how long that may be believed.

Rules:

1. While Redis tells us of every change (tracked), an answer holds until it is
   withdrawn: no age limit, no round trip.
2. An answer counts as tracked only if the tracking that was on when its question was
   asked is still on, and nothing was withdrawn in between. The answer and the
   withdrawal come over different connections, so their order says nothing.
3. When tracking ends, no answer holds any more: the question is asked again.
4. When it can't be asked, an answer still counts for `stale_s` after the last instant
   at which it was known to be true.

No I/O here: `blacklist_tracked` tells what happens.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from runtime.clock import Clock
from runtime.values import value

#: About 250 bytes each.
CAPACITY = 50_000
_UNTRACKED = 0

Answers = Mapping[str, bytes | None]


@value
class Question:
    """Taken before asking, given back with the answer."""

    number: int
    session: int
    withdrawals: int
    at: float


@value
class _Entry:
    value: bytes | None
    asked: Question
    session: int


class Verdicts:
    """Answers by Redis key, the least recently used dropped first."""

    def __init__(
        self, clock: Clock, *, stale_s: float, capacity: int = CAPACITY
    ) -> None:
        self._clock = clock
        self._stale_s = stale_s
        self._capacity = capacity
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._questions = 0
        self._withdrawals = 0
        self._session = _UNTRACKED
        self._alive_at = 0.0
        self.is_tracked = False

    def __len__(self) -> int:
        return len(self._entries)

    def begin(self) -> None:
        """From now on Redis tells of every change."""
        self._session += 1
        self.is_tracked = True
        self._alive_at = self._clock.monotonic()

    def confirm(self) -> None:
        """Tracking is alive at this instant."""
        self._alive_at = self._clock.monotonic()

    def end(self) -> None:
        """From now on changes may be missed."""
        self.is_tracked = False

    def withdraw(self, keys: Iterable[str] | None) -> None:
        """These keys have changed; None: all."""
        self._withdrawals += 1
        if keys is None:
            self._entries.clear()
            return
        for key in keys:
            self._entries.pop(key, None)

    def ask(self) -> Question:
        """A question is about to be put to Redis."""
        self._questions += 1
        session = self._session if self.is_tracked else _UNTRACKED
        return Question(
            self._questions, session, self._withdrawals, self._clock.monotonic()
        )

    def keep(self, asked: Question, answers: Answers) -> None:
        """What came back, unless something was withdrawn meanwhile."""
        if asked.withdrawals != self._withdrawals:
            return
        is_same = self.is_tracked and asked.session == self._session
        session = asked.session if is_same else _UNTRACKED
        for key, found in answers.items():
            known = self._entries.get(key)
            if known is not None and known.asked.number > asked.number:
                continue
            self._entries[key] = _Entry(found, asked, session)
            self._entries.move_to_end(key)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    def fresh(self, keys: Iterable[str]) -> Answers | None:
        """Answers that hold now; None when one of them is missing."""
        if not self.is_tracked:
            return None
        found: dict[str, bytes | None] = {}
        for key in keys:
            entry = self._entries.get(key)
            if entry is None or entry.session != self._session:
                return None
            self._entries.move_to_end(key)
            found[key] = entry.value
        return found

    def stale(self, keys: Iterable[str]) -> Answers | None:
        """Answers that were true not long ago; None when one is missing or too old."""
        oldest = self._clock.monotonic() - self._stale_s
        found: dict[str, bytes | None] = {}
        for key in keys:
            entry = self._entries.get(key)
            if entry is None or self._known_at(entry) < oldest:
                return None
            found[key] = entry.value
        return found

    def _known_at(self, entry: _Entry) -> float:
        if entry.session != _UNTRACKED and entry.session == self._session:
            return max(self._alive_at, entry.asked.at)
        return entry.asked.at
