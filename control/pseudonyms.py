"""Names that stand for users and rows outside, until their key is destroyed.

Each user has a key of their own; a pseudonym is the HMAC-SHA-256 of the user's id under
it, cut to 128 bits. With the key destroyed nobody can compute it again, so what went
out under it can't be brought together with the user any more, nor with what goes out
later: that says `erased` for all such users. Rows that name no user keep their id.
"""

import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID

from control.store import StoreUnavailable
from runtime.clock import Clock

KEY_BYTES: Final = 32
ERASED: Final = "erased"
_PSEUDONYM_BYTES: Final = 16
_PREFIX: Final = "p-"

#: User -> key; None: it is destroyed.
Keys = Mapping[str, bytes | None]


class Pseudonyms(Protocol):
    """The keys; raises StoreUnavailable."""

    async def keys(self, users: Sequence[str]) -> Keys:
        """Of each of `users`; made for who has none yet."""

    async def destroy(self, user: str) -> datetime:
        """For ever; also of who never had one. When it was destroyed first."""


def of_user(user: str, key: bytes | None) -> str:
    if key is None:
        return ERASED
    digest = hmac.digest(key, user.encode(), "sha256")
    return _PREFIX + digest[:_PSEUDONYM_BYTES].hex()


def of_row(row: UUID, key: bytes | None) -> UUID | None:
    """None with the key: rows of those who were erased have no name of their own."""
    if key is None:
        return None
    return UUID(bytes=hmac.digest(key, row.bytes, "sha256")[:_PSEUDONYM_BYTES])


class MemoryPseudonyms:
    """For tests and tools."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._keys: dict[str, bytes | None] = {}
        self._destroyed: dict[str, datetime] = {}
        self.is_available = True

    async def keys(self, users: Sequence[str]) -> Keys:
        self._answer()
        for user in users:
            self._keys.setdefault(user, secrets.token_bytes(KEY_BYTES))
        return {user: self._keys[user] for user in users}

    async def destroy(self, user: str) -> datetime:
        self._answer()
        self._keys[user] = None
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        return self._destroyed.setdefault(user, now)

    def _answer(self) -> None:
        if not self.is_available:
            raise StoreUnavailable
