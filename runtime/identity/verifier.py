"""Tokens against the keys as they are now: the one door to `tokens.verify`."""

from dataclasses import replace
from typing import Protocol

from runtime.clock import Clock
from runtime.contracts import ErrorCode
from runtime.identity.keys import KeySet
from runtime.identity.tokens import KEY_UNKNOWN, Checks, Claims, Rejected, verify
from runtime.identity.verified import VerifiedTokens


class KeySource(Protocol):
    """Where verification keys come from."""

    @property
    def keys(self) -> KeySet:
        """All that are known."""

    @property
    def is_complete(self) -> bool:
        """False while a part was never read, or is being read just now."""

    async def look_again(self) -> bool:
        """A token names a key that is not known: whether there may be news now.

        Bounded in time and number, whoever asks how often.
        """


class StaticKeys:
    """Keys from files, read at the start."""

    def __init__(self, keys: KeySet) -> None:
        self.keys = keys
        self.is_complete = True

    async def look_again(self) -> bool:
        return False


class Verifier:
    """Decides by its clock whether a token is genuine and in force."""

    def __init__(self, source: KeySource, checks: Checks, clock: Clock) -> None:
        self._source = source
        self._checks = checks
        self._clock = clock
        self._verified = VerifiedTokens()

    def known(self, token: str, *, expired_s: float = 0.0) -> Claims | None:
        """What was verified before and is in force; None: ask `verify`."""
        now = self._clock.now()
        claims = self._verified.find(token, self._source.keys, now)
        if claims is None or now >= claims.exp + self._checks.leeway_s + expired_s:
            return None
        return claims

    async def verify(self, token: str, *, expired_s: float = 0.0) -> Claims | Rejected:
        """`expired_s`: for so long after its end a token still counts."""
        known = self.known(token, expired_s=expired_s)
        if known is not None:
            return known
        return await self.verify_anew(token, expired_s=expired_s)

    async def verify_anew(
        self, token: str, *, expired_s: float = 0.0
    ) -> Claims | Rejected:
        """The same for a token that is not `known`."""
        outcome = self._verify(token, expired_s)
        if not _lacks_key(outcome):
            return outcome
        if await self._source.look_again():
            outcome = self._verify(token, expired_s)
        if _lacks_key(outcome) and not self._source.is_complete:
            # It may be genuine: nobody can tell before all keys were seen.
            return Rejected(ErrorCode.AUTH_UNAVAILABLE, "keys_not_fetched")
        return outcome

    def _verify(self, token: str, expired_s: float) -> Claims | Rejected:
        checks, now, keys = self._checks, self._clock.now(), self._source.keys
        if expired_s:
            checks = replace(checks, expired_s=expired_s)
        outcome = verify(token, keys, checks, now)
        if isinstance(outcome, Claims):
            self._verified.keep(token, keys, outcome, now)
        return outcome


def _lacks_key(outcome: Claims | Rejected) -> bool:
    return isinstance(outcome, Rejected) and outcome.reason == KEY_UNKNOWN
