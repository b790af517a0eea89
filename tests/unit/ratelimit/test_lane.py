"""A lane answers soon, whatever the other side does."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from redis.exceptions import ResponseError

from ratelimit.lane import MAX_BATCH, Lane
from ratelimit.store import CounterUnavailable
from runtime.redis import Call, RedisUnavailable

DEADLINE_S = 0.02


class OtherSide:
    """Answers each call with its first argument, until told to do else."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.error: Exception | None = None
        self.is_stuck = False

    async def __call__(self, calls: Sequence[Call]) -> list[Any]:
        self.batches.append(len(calls))
        await asyncio.sleep(0)
        if self.is_stuck:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return [arguments[0] for _, arguments in calls]


class Bench:
    def __init__(self) -> None:
        self.other = OtherSide()
        self.said: list[str | None] = []
        self.lane = Lane(self.other, lambda call: call, self.said.append, DEADLINE_S)

    async def ask(self, answer: Any) -> Any:
        return await self.lane.ask((["k"], [answer]))

    async def is_up_again(self) -> None:
        async with asyncio.timeout(5):
            while self.lane.is_down:
                await asyncio.sleep(0.001)


async def test_calls_of_one_turn_travel_together_and_get_their_own_answers() -> None:
    bench = Bench()
    count = MAX_BATCH + 10
    answers = await asyncio.gather(*(bench.ask(number) for number in range(count)))

    assert answers == list(range(count))
    assert bench.other.batches == [MAX_BATCH, 10]
    assert bench.said == []


async def test_a_call_that_fails_alone_fails_alone() -> None:
    bench = Bench()
    answers = await asyncio.gather(
        bench.ask(1), bench.ask(ResponseError()), bench.ask(3), return_exceptions=True
    )

    assert (answers[0], answers[2]) == (1, 3)
    assert isinstance(answers[1], CounterUnavailable)
    assert not bench.lane.is_down


@pytest.mark.parametrize(
    ("error", "reason"),
    [(RedisUnavailable("ReadOnlyError"), "ReadOnlyError"), (KeyError("x"), "KeyError")],
    ids=["of redis", "a defect"],
)
async def test_an_error_that_all_would_meet_takes_the_lane_down_until_a_probe_passes(
    error: Exception, reason: str
) -> None:
    bench = Bench()
    bench.other.error = error
    failed = await asyncio.gather(
        *(bench.ask(number) for number in range(3)), return_exceptions=True
    )
    asked = len(bench.other.batches)
    with pytest.raises(CounterUnavailable):
        await bench.ask(4)
    bench.other.error = None
    await bench.is_up_again()

    assert all(isinstance(one, CounterUnavailable) for one in failed)
    assert len(bench.other.batches) - asked == 1  # the probe, and no request
    assert bench.said == [reason, None]
    assert await bench.ask(5) == 5


async def test_nobody_waits_behind_a_call_that_hangs() -> None:
    bench = Bench()
    bench.other.is_stuck = True
    first = asyncio.create_task(bench.ask(1))
    await asyncio.sleep(0.001)
    answers = await asyncio.gather(first, bench.ask(2), return_exceptions=True)
    bench.other.is_stuck = False
    await bench.lane.aclose()

    assert all(isinstance(one, CounterUnavailable) for one in answers)
    assert bench.said == ["TimeoutError"]


async def test_a_caller_who_is_gone_spoils_nobodys_answer() -> None:
    bench = Bench()
    gone = asyncio.create_task(bench.ask(1))
    stays = asyncio.create_task(bench.ask(2))
    await asyncio.sleep(0)
    gone.cancel()

    assert await stays == 2
    assert bench.said == []
