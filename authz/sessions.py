"""Connections that outlive a request end when their token does.

One `Session` for each open connection of a token. Redis being away ends none: nobody
knows of a revocation then, and a new connection is refused anyway.
"""

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum

from runtime.clock import Clock
from runtime.identity.blacklist import Blacklist, BlacklistUnavailable
from runtime.identity.tokens import Claims
from runtime.lifecycle import wait_or_stop
from runtime.metrics import Metrics

#: With a revocation's 250 ms well below the 5 s that are promised.
SWEEP_S = 1.0
#: So many are looked up at a time: one round trip when Redis must be asked.
_CHUNK = 200


class Ending(StrEnum):
    """Why the gateway ends a connection."""

    EXPIRED = "expired"
    REVOKED = "revoked"
    STOPPING = "stopping"


@dataclass(eq=False, slots=True)
class Session:
    """An open connection; `ended` is set once, by whoever ends it."""

    claims: Claims
    ended: "asyncio.Future[Ending]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def end(self, why: Ending) -> None:
        if not self.ended.done():
            self.ended.set_result(why)


class Sessions:
    """All of this process."""

    def __init__(
        self, blacklist: Blacklist, clock: Clock, metrics: Metrics, leeway_s: float
    ) -> None:
        self._blacklist = blacklist
        self._clock = clock
        self._metrics = metrics
        self._leeway_s = leeway_s
        self._open: set[Session] = set()
        self._is_stopping = False

    def __len__(self) -> int:
        return len(self._open)

    def open(self, claims: Claims) -> Session:
        session = Session(claims)
        self._open.add(session)
        self._metrics.set("hubgate_authz_sessions", len(self._open))
        if self._is_stopping:
            session.end(Ending.STOPPING)
        return session

    def close(self, session: Session) -> None:
        """The connection is gone."""
        self._open.discard(session)
        self._metrics.set("hubgate_authz_sessions", len(self._open))
        if session.ended.done():
            self._metrics.inc(
                "hubgate_authz_sessions_ended_total", reason=session.ended.result()
            )
        else:
            session.ended.cancel()

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until `stop`, then end them all: nobody would watch them."""
        while not await wait_or_stop(stop, SWEEP_S):
            await self.sweep()
        self._is_stopping = True
        for session in tuple(self._open):
            session.end(Ending.STOPPING)

    async def sweep(self) -> None:
        """End every session whose token is not in force any more."""
        sessions = tuple(self._open)
        for start in range(0, len(sessions), _CHUNK):
            chunk = sessions[start : start + _CHUNK]
            await asyncio.gather(*map(self._check, chunk))

    async def _check(self, session: Session) -> None:
        if self._clock.now() >= session.claims.exp + self._leeway_s:
            session.end(Ending.EXPIRED)
            return
        try:
            if await self._blacklist.is_revoked(session.claims):
                session.end(Ending.REVOKED)
        except BlacklistUnavailable:
            self._metrics.inc("hubgate_authz_store_failures_total", action="keep")
