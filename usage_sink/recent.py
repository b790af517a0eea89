"""Which requests were committed here just now: spares the ledger questions. Pure."""

from collections.abc import Iterable
from typing import Final

#: Of one generation; both together take some 20 MB.
_CAPACITY: Final = 100_000


class RecentIds:
    """Ids as integers (`UUID.int`), in two generations: the older one is forgotten.

    What it does not know may be in the ledger all the same.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._young: set[int] = set()
        self._old: set[int] = set()

    def add(self, ids: Iterable[int]) -> None:
        self._young.update(ids)
        if len(self._young) >= self._capacity:
            self._old, self._young = self._young, set()

    def __contains__(self, id_: int) -> bool:
        return id_ in self._young or id_ in self._old
