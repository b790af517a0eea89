"""Several things at once, of which one error is enough."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from local.errors import LocalError


async def side_by_side(*work: Coroutine[Any, Any, None]) -> None:
    """All of it at once; the first error ends the rest.

    Raises:
        LocalError: that error.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except ExceptionGroup as errors:
        # Not `except*`: what it raises arrives in a group of its own.
        ours = errors.subgroup(LocalError)
        if ours is None:
            raise
        raise ours.exceptions[0] from None
