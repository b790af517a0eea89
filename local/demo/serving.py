"""One uvicorn server in this event loop, stopped by an event instead of a signal."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator
from typing import Final

import uvicorn
from fastapi import FastAPI

from runtime.settings import Address

_BACKLOG: Final = 2048
_START_TIMEOUT_S: Final = 10.0
_MAX_WEBSOCKET_MESSAGE: Final = 1024 * 1024


class _Server(uvicorn.Server):
    """Leaves the process's signals alone: `runtime.lifecycle` owns them."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def bind(address: Address) -> socket.socket:
    """A bound TCP socket; port 0 picks a free one."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # Named by its protocol, or asyncio leaves Nagle's algorithm on: 40 ms an answer.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address.host, address.port))
    except OSError:
        bound.close()
        raise
    return bound


@contextlib.asynccontextmanager
async def serving(
    app: FastAPI, address: Address, *, drain_timeout_s: float
) -> AsyncIterator[Address]:
    """Serve inside the block; gives the address bound, closes within the deadline."""
    bound = bind(address)
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=_MAX_WEBSOCKET_MESSAGE,
        backlog=_BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(drain_timeout_s)),
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            await server.ready.wait()
        yield Address(host=address.host, port=bound.getsockname()[1])
    finally:
        server.should_exit = True
        await task
        bound.close()
