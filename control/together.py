"""Several things at once, of which none is left running. Pure."""

import asyncio
from collections.abc import Awaitable
from typing import Any


async def together(*asked: Awaitable[Any]) -> list[Any]:
    """The answers in this order; with the first error, the others are stopped."""
    tasks = [asyncio.ensure_future(one) for one in asked]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
