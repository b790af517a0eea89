"""Which requests were committed here just now: spares the ledger questions. Pure.

Of each it is known whether it was counted as admitted: Envoy asks again when a try
timed out, and then two lines of the journal are of one request.
"""

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
        #: Whether it was counted.
        self._young: dict[int, bool] = {}
        self._old: dict[int, bool] = {}

    def add(self, ids: Iterable[int]) -> None:
        self._young.update(dict.fromkeys(ids, False))
        self._forget()

    def count(self, ids: Iterable[int]) -> None:
        """These are in the ledger, and were counted."""
        young, old = self._young, self._old
        for id_ in ids:
            known = old if id_ in old else young
            known[id_] = True
        self._forget()

    def counted(self, ids: Iterable[int]) -> set[int]:
        """Those that are known to have been counted."""
        young, old = self._young, self._old
        return {id_ for id_ in ids if young.get(id_) or old.get(id_)}

    def __contains__(self, id_: object) -> bool:
        return id_ in self._young or id_ in self._old

    def _forget(self) -> None:
        if len(self._young) >= self._capacity:
            self._old, self._young = self._young, {}
