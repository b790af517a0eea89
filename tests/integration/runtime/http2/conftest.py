"""Pausing, half-closing and aborting are the loop's own: both loops that serve."""

import asyncio
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories() -> dict[
    str, Callable[[], asyncio.AbstractEventLoop]
]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
