"""Keys that are fetched: refreshed in the background, kept when that fails.

Rules:

1. The last good set stays in force, however long its source is away or silly.
2. A token that names an unknown key may cause one fetch in `cooldown_s`, whoever sends
   how many of them, and waits for it for at most `LOOK_S`.
3. What is in a set is judged key by key; a bad key is left out and its reason logged.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from runtime.clock import Clock
from runtime.identity.keys import (
    KeyRefused,
    KeySet,
    Party,
    VerificationKey,
    from_jwks,
)
from runtime.lifecycle import wait_or_stop
from runtime.logs import get_logger
from runtime.metrics import Metrics

log = get_logger(__name__)

#: A caller of `ext_authz` has 250 ms.
LOOK_S = 0.15
#: Between tries when the source is away.
FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 15.0


class FetchFailed(Exception):
    """The document could not be had; the message says why."""


class Fetch(Protocol):
    """Gets a document, within limits of its own."""

    async def __call__(self, url: str) -> bytes:
        """The body.

        Raises:
            FetchFailed: none, or not by the rules.
        """


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a set is fetched."""

    refresh_s: float = 300.0
    cooldown_s: float = 30.0


class Feed:
    """The keys at one URL, all of one party."""

    def __init__(
        self, url: str, party: Party | None, fetch: Fetch, pace: Pace, metrics: Metrics
    ) -> None:
        self.url = url
        self.keys: tuple[VerificationKey, ...] = ()
        self._party = party
        self._fetch = fetch
        self._pace = pace
        self._metrics = metrics
        self.running: asyncio.Task[bool] | None = None
        self._left_out: list[str] = []

    @property
    def is_busy(self) -> bool:
        return self.running is not None and not self.running.done()

    def start(self) -> "asyncio.Task[bool]":
        """Fetch now, or join the fetch that runs; the task gives whether it worked."""
        if self.running is None or self.running.done():
            self.running = asyncio.create_task(self._refresh())
        return self.running

    async def run(self, stop: asyncio.Event) -> None:
        """Fetch again and again; sooner while it fails."""
        retry_s = FIRST_RETRY_S
        while not stop.is_set():
            if await self.start():
                retry_s = FIRST_RETRY_S
                await wait_or_stop(stop, self._pace.refresh_s)
            else:
                await wait_or_stop(stop, min(retry_s, self._pace.refresh_s))
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)

    async def _refresh(self) -> bool:
        try:
            keys, left_out = from_jwks(await self._fetch(self.url))
            if not keys:
                raise KeyRefused("no usable key in it")  # noqa: TRY301 - one way to fail
        except Exception as error:  # noqa: BLE001 - whatever it was, try again later
            log.warning("JWK Set not taken", url=self.url, reason=repr(error))
            self._metrics.inc("hubgate_jwks_fetches_total", result="failed")
            return False
        if left_out != self._left_out:
            log.warning("keys of a JWK Set left out", url=self.url, reasons=left_out)
            self._left_out = left_out
        self.keys = tuple(replace(key, party=self._party) for key in keys)
        self._metrics.inc("hubgate_jwks_fetches_total", result="ok")
        return True


class FetchedKeys:
    """Fixed keys and those of all feeds; `run` must be running."""

    def __init__(
        self,
        fixed: Sequence[VerificationKey],
        feeds: Sequence[Feed],
        clock: Clock,
        pace: Pace,
    ) -> None:
        self._fixed = tuple(fixed)
        self._feeds = tuple(feeds)
        self._clock = clock
        self._cooldown_s = pace.cooldown_s
        self._look_at = self._look_until = -math.inf
        self._parts: tuple[tuple[VerificationKey, ...], ...] = ()
        self._keys = KeySet(self._fixed)

    @property
    def keys(self) -> KeySet:
        parts = tuple([feed.keys for feed in self._feeds])
        if parts != self._parts:
            self._parts = parts
            self._keys = KeySet(sum(parts, self._fixed))
        return self._keys

    @property
    def is_complete(self) -> bool:
        return all(feed.keys and not feed.is_busy for feed in self._feeds)

    async def look_again(self) -> bool:
        now = self._clock.monotonic()
        if now >= self._look_at:
            self._look_at = now + self._cooldown_s
            self._look_until = now + LOOK_S
            for feed in self._feeds:
                feed.start()
        left_s = self._look_until - now
        if left_s <= 0:
            return False
        running = [feed.running for feed in self._feeds if feed.running is not None]
        if running:
            await asyncio.wait(running, timeout=left_s)
        return True

    async def run(self, stop: asyncio.Event) -> None:
        """Keep every feed fresh until `stop`."""
        tasks = [asyncio.create_task(feed.run(stop)) for feed in self._feeds]
        await stop.wait()
        for task in tasks:
            # A fetch that hangs must not hold up the end.
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
