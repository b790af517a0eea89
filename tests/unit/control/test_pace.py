"""What a reader may be behind, and that it never gets ahead."""

import asyncio
from typing import Final

import pytest

from control.pace import Pace, Reader, TooSlow
from runtime.clock import FakeClock
from runtime.metrics import Metrics

COUNTER: Final = "hubgate_usage_exports_too_slow_total"


class Room:
    """A reader of whom 100 bytes/s are asked, 10 s behind at most."""

    def __init__(self) -> None:
        self.clock, self.metrics = FakeClock(), Metrics()
        pace = Pace(stall_s=10.0, least_rate=100)
        self.reader = Reader(pace, self.clock, self.metrics)

    async def take(self, size: int, seconds: float) -> None:
        """The time left is the loop's own: none, when it is behind too far."""

        async def sent() -> None:
            self.clock.advance(seconds)
            await asyncio.sleep(0)  # where an overdue deadline strikes

        await self.reader.take(sent(), size)


async def test_pauses_are_forgiven_when_it_was_faster_afterwards() -> None:
    room = Room()
    for _ in range(10):
        await room.take(100, 9.0)
        await room.take(1_000, 1.0)

    assert room.reader.taken_bytes == 11_000
    assert room.metrics.value(COUNTER) == 0


async def test_a_little_too_slow_for_long_is_too_slow() -> None:
    room = Room()
    for _ in range(10):  # 100 bytes may take a second
        await room.take(100, 2.2)

    with pytest.raises(TooSlow):
        await room.take(100, 0.0)
    assert (room.reader.is_too_slow, room.metrics.value(COUNTER)) == (True, 1)
    assert room.reader.taken_bytes == 1_000


async def test_who_was_fast_once_may_not_stand_still_for_it() -> None:
    room = Room()
    await room.take(1_000_000, 0.0)
    await room.take(0, 10.5)

    with pytest.raises(TooSlow):
        await room.take(0, 0.0)
