"""Which genuine tokens were revoked? The port, and its twin in memory."""

from typing import Protocol

from runtime.identity.tokens import Claims


class BlacklistUnavailable(Exception):
    """It can't be said whether a token is revoked."""


class Blacklist(Protocol):
    """Revocations by token id and by user."""

    async def is_revoked(self, claims: Claims) -> bool:
        """Whether the token with these claims was revoked.

        Raises:
            BlacklistUnavailable: nobody can tell now.
        """


def is_revoked(claims: Claims, *, by_id: bool, user_cutoff: bytes | None) -> bool:
    """The rule: its `jti` is listed, or it was issued before the user's cutoff.

    A token without `iat` counts as issued long ago, and a cutoff that can't be read
    revokes: deny on doubt. So does one of at most 1, which is a mark, not a time.
    """
    if by_id:
        return True
    if user_cutoff is None:
        return False
    try:
        cutoff = float(user_cutoff)
    except ValueError:
        return True
    if not cutoff > 1:
        return True
    return claims.iat is None or not claims.iat >= cutoff


class MemoryBlacklist:
    """For tests and tools."""

    def __init__(self) -> None:
        self.token_ids: set[str] = set()
        self.user_cutoffs: dict[str, bytes] = {}
        self.is_available = True

    async def is_revoked(self, claims: Claims) -> bool:
        if not self.is_available:
            raise BlacklistUnavailable
        return is_revoked(
            claims,
            by_id=claims.jti in self.token_ids,
            user_cutoff=self.user_cutoffs.get(claims.sub),
        )
