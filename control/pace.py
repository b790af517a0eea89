"""How slowly who reads an export may read it: each holds one of few places.

A reader falls behind by the time that is waited for it, less what the bytes that it
took may take at the least rate; it never gets ahead. So a file of n bytes holds its
place for n / rate + patience at most, and a pause, or a slow line, breaks nothing off.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final

from runtime.clock import Clock
from runtime.metrics import Metrics

DEFAULT_STALL_S: Final = 30.0
DEFAULT_LEAST_RATE: Final = 16_384


class TooSlow(Exception):
    """The reader is further behind than anyone may be."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What is asked of a reader: `stall_s` behind `least_rate` (bytes/s) at most."""

    stall_s: float = DEFAULT_STALL_S
    least_rate: int = DEFAULT_LEAST_RATE


class Reader:
    """One export's; `taken_bytes` is what it was given and took."""

    def __init__(self, pace: Pace, clock: Clock, metrics: Metrics) -> None:
        self._pace = pace
        self._clock = clock
        self._metrics = metrics
        self._behind_s = 0.0
        self.taken_bytes = 0
        self.is_too_slow = False

    async def take(self, sent: Awaitable[None], size: int) -> None:
        """Wait until `size` bytes are `sent`; raises TooSlow."""
        at_least_s = size / self._pace.least_rate
        left_s = self._pace.stall_s + at_least_s - self._behind_s
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(left_s):
                await sent
        except TimeoutError:
            self.is_too_slow = True
            self._metrics.inc("hubgate_usage_exports_too_slow_total")
            raise TooSlow from None
        took_s = self._clock.monotonic() - began
        self._behind_s = max(0.0, self._behind_s + took_s - at_least_s)
        self.taken_bytes += size
