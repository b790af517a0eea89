import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from runtime.steps import Steps


class Run:
    """A run, and a future that tells when it has ended."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self.steps = Steps(coroutine, self.ended.set_result)
        self.steps.start()

    async def result(self) -> Any:
        async with asyncio.timeout(5):
            await self.ended
        return self.steps.result()


async def test_what_waits_for_nothing_has_ended_at_once() -> None:
    async def three() -> int:
        return 3

    run = Run(three())
    assert run.ended.done()
    assert await run.result() == 3


async def test_what_is_awaited_gives_its_result_or_its_error() -> None:
    loop = asyncio.get_running_loop()
    number, error = loop.create_future(), loop.create_future()

    async def both() -> int:
        await asyncio.sleep(0)
        found: int = await number
        with pytest.raises(ConnectionError):
            await error
        return found + await asyncio.create_task(asyncio.sleep(0, 4))

    run = Run(both())
    loop.call_soon(number.set_result, 3)
    loop.call_soon(error.set_exception, ConnectionError())

    assert await run.result() == 7


async def test_what_asyncio_gathers_and_waits_for_may_be_awaited() -> None:
    async def one(number: int) -> int:
        await asyncio.sleep(0)
        return number

    async def all_of_them() -> list[int]:
        found = await asyncio.gather(one(1), one(2))
        late = asyncio.ensure_future(one(3))
        await asyncio.wait([late], timeout=5)
        return [*found, late.result()]

    assert await Run(all_of_them()).result() == [1, 2, 3]


async def test_an_error_is_told_to_whoever_started_it() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    run = Run(fails())
    with pytest.raises(KeyError):
        await run.result()
    assert isinstance(run.steps.error, KeyError)


@pytest.mark.parametrize("is_answered", [False, True])
async def test_it_is_cancelled_where_it_waits_even_if_an_answer_is_on_its_way(
    is_answered: bool,  # noqa: FBT001 - a parameter
) -> None:
    waits = asyncio.get_running_loop().create_future()
    cleaned: list[str] = []

    async def cleans() -> None:
        try:
            await waits
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    run = Run(cleans())
    if is_answered:
        waits.set_result(None)
    run.steps.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run.result()
    assert cleaned == ["up"]


async def test_whoever_catches_the_cancellation_goes_on() -> None:
    async def stays() -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return "stayed"
        return "went"

    run = Run(stays())
    run.steps.cancel()
    assert await run.result() == "stayed"


async def test_cancelling_what_has_ended_changes_nothing() -> None:
    async def three() -> int:
        return 3

    run = Run(three())
    run.steps.cancel()
    assert await run.result() == 3
