"""Exports work in one thread, which keeps nothing of what they are done with."""

import asyncio
import resource
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from control.arrow_thread import in_arrow_thread

MIB = 1024 * 1024


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def some_texts() -> int:
    """Takes 60 MB in small pieces, and gives them back."""
    pieces = [pa.array(["x" * 1000] * 60) for _ in range(1000)]
    return sum(len(one) for one in pieces)


async def test_all_work_is_done_in_one_thread_that_is_not_the_loops() -> None:
    threads = await asyncio.gather(
        *(in_arrow_thread(threading.get_ident) for _ in range(20))
    )

    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


async def test_an_error_is_that_of_who_asked_for_the_work() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_arrow_thread(divmod, 1, 0)

    assert await in_arrow_thread(divmod, 7, 2) == (3, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc")
async def test_memory_that_work_is_done_with_is_given_back_at_once() -> None:
    await in_arrow_thread(pa.array, ["x"])
    before = resident_bytes()
    count = await in_arrow_thread(some_texts)
    grown = resident_bytes() - before

    assert count == 60_000
    assert grown < 15 * MIB
