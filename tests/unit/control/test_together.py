"""Several things at once: all of them end."""

import asyncio

import pytest

from control.together import together


async def test_answers_are_in_the_order_of_the_questions() -> None:
    first = asyncio.Event()

    async def slow() -> str:
        await first.wait()
        return "slow"

    async def quick() -> str:
        first.set()
        return "quick"

    assert await together(slow(), quick()) == ["slow", "quick"]


async def test_with_an_error_the_others_are_stopped_before_it_is_raised() -> None:
    stopped = list[str]()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append("endless")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await together(endless(), fails())
    assert stopped == ["endless"]
