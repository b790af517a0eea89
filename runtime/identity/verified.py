"""Genuine tokens that were verified a moment ago: a signature is checked once.

Rules:

1. A token is known by the digest of its exact text: another spelling is another token.
2. What is kept is that the signature and the claims are genuine, by these keys. With
   other keys nothing is known any more.
3. Whether a token is in force by now, and whether it was revoked, is asked every time,
   by whoever asks here. Before the instant at which it was verified (a clock that was
   set back) nothing is known.
"""

import hashlib
from collections import OrderedDict

from runtime.identity.keys import KeySet
from runtime.identity.tokens import Claims
from runtime.values import value

#: Some 600 bytes each: digests, not tokens, which may have 8 KB.
CAPACITY = 20_000


@value
class _Entry:
    claims: Claims
    since: float


class VerifiedTokens:
    """The least recently used make room."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._keys: KeySet | None = None
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        # Of the last one: who is not found is digested once.
        self._token = ""
        self._digest = _digest("")

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, token: str, keys: KeySet, now: float) -> Claims | None:
        """Its claims, when these keys have verified it; they may have expired."""
        if keys is not self._keys:
            return None
        digest = self._digest_of(token)
        entry = self._entries.get(digest)
        if entry is None or now < entry.since:
            return None
        self._entries.move_to_end(digest)
        return entry.claims

    def keep(self, token: str, keys: KeySet, claims: Claims, now: float) -> None:
        """These keys have just verified it."""
        if keys is not self._keys:
            self._entries.clear()
            self._keys = keys
        self._entries[self._digest_of(token)] = _Entry(claims, now)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    def _digest_of(self, token: str) -> bytes:
        if token is not self._token:
            self._token, self._digest = token, _digest(token)
        return self._digest


def _digest(token: str) -> bytes:
    # Whatever text it is: no two have the same bytes.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
