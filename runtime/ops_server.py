"""A small HTTP server beside a gRPC service: liveness, readiness, metrics."""

import asyncio
import json
import socket
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from runtime import metrics as metric_list
from runtime.health import Health
from runtime.lifecycle import wait_or_stop
from runtime.metrics import Metrics
from runtime.settings import Address

_JSON = "application/json"
_TICK_S = 1.0
#: So long a connection that was closed may take for what it has still to send.
_LINGER_S = 30.0


def ops_app(health: Health, metrics: Metrics) -> Starlette:
    """`/health` without dependencies, `/health/ready` with them, `/metrics`."""

    async def alive(_: Request) -> Response:
        return Response('{"status":"ok"}', media_type=_JSON)

    async def ready(_: Request) -> Response:
        report = await health.report()
        body = json.dumps(report.as_json())
        return Response(body, 200 if report.is_ready else 503, media_type=_JSON)

    async def values(_: Request) -> Response:
        return Response(metrics.render(), media_type=metric_list.CONTENT_TYPE)

    return Starlette(
        routes=[
            Route("/health", alive),
            Route("/health/ready", ready),
            Route("/metrics", values),
        ]
    )


class HttpServer:
    """uvicorn inside a running loop, on a socket of ours, with our signals."""

    def __init__(self, app: ASGIApp, address: Address, drain_timeout_s: float) -> None:
        self._address = address
        self._server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_graceful_shutdown=max(1, round(drain_timeout_s)),
            )
        )
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; connections are accepted from here on.

        Raises:
            OSError: the address can't be bound.
        """
        self._socket = await asyncio.to_thread(_listen, self._address)
        self._task = asyncio.create_task(self._server.serve([self._socket]))

    @property
    def port(self) -> int:
        """The port in use, also when 0 was asked for; 0 for a Unix socket."""
        if self._socket is None or self._address.path is not None:
            return 0
        return int(self._socket.getsockname()[1])

    async def stop(self) -> None:
        """Let running requests end within the drain time."""
        if self._task is not None:
            self._server.end()
            await self._task


def _listen(address: Address) -> socket.socket:
    if address.path is None:
        tcp = socket.create_server(
            (address.host, address.port),
            family=socket.AF_INET6 if ":" in address.host else socket.AF_INET,
        )
        # asyncio sets it only where the socket names its protocol, which this one
        # does not; without it every answer of two packets takes 40 ms.
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tcp
    # A socket file outlives a killed process and would refuse the bind.
    Path(address.path).unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(address.path)
    server.listen()
    return server


class _Server(uvicorn.Server):
    """Wakes once a second, for the answers' date; its own loop does so ten times."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()
        #: Connections that are closed but for their rest, and since when.
        self._closing: dict[asyncio.Transport, float] = {}

    def end(self) -> None:
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            self._let_go()
            await wait_or_stop(self._ending, _TICK_S)

    def _let_go(self) -> None:
        """A peer that never reads would hold a connection and its rest for ever."""
        now = asyncio.get_running_loop().time()
        transports = [one.transport for one in self.server_state.connections]
        closing = [one for one in transports if one.is_closing()]
        self._closing = {one: self._closing.get(one, now) for one in closing}
        for one, since in self._closing.items():
            if now - since > _LINGER_S:
                one.abort()

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]  # signals belong to runtime.lifecycle
        return nullcontext()


class OpsServer:
    """The operators' server of a gRPC service; absent when no address is set."""

    def __init__(
        self, address: Address | None, health: Health, metrics: Metrics
    ) -> None:
        self._server = (
            HttpServer(ops_app(health, metrics), address, drain_timeout_s=1.0)
            if address is not None
            else None
        )

    async def start(self) -> None:
        if self._server is not None:
            await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
