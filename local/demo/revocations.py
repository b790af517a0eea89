"""Where auth-service notes tokens that must no longer pass."""

from typing import Protocol


class Revocations(Protocol):
    """The blacklist, seen by the one who writes it."""

    async def revoke(self, jti: str, ttl_s: int) -> bool:
        """Blacklist for `ttl_s` seconds (at least one); False when it already was."""


class MemoryRevocations:
    """For tests: nothing expires."""

    def __init__(self) -> None:
        self.revoked: dict[str, int] = {}

    async def revoke(self, jti: str, ttl_s: int) -> bool:
        if jti in self.revoked:
            return False
        self.revoked[jti] = max(1, ttl_s)
        return True
