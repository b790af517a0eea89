"""The one thread in which Arrow works for exports.

Its allocator keeps what a thread has freed, for a while and for that thread alone. With
one thread, and all given back after each piece of work, an export takes little more
memory than a piece does, and the next one no more.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar, TypeVarTuple

import pyarrow as pa

_Found = TypeVar("_Found")
_Given = TypeVarTuple("_Given")


async def in_arrow_thread(work: Callable[[*_Given], _Found], *given: *_Given) -> _Found:
    """What `work` gives; it waits for what was asked before."""

    def done() -> _Found:
        try:
            return work(*given)
        finally:
            pa.default_memory_pool().release_unused()

    return await asyncio.get_running_loop().run_in_executor(_thread(), done)


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "arrow")
