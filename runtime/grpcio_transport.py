"""gRPC carried by grpcio: the reference that the other transport is held against."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from runtime.rpc import (
    MAX_MESSAGE_BYTES,
    Calls,
    Metadata,
    Method,
    RpcError,
    Stream,
    Unary,
)
from runtime.settings import Address

_Context = grpc.aio.ServicerContext[Any, Any]
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcioTransport:
    """Serves `methods` at `address`."""

    def __init__(
        self, address: Address, methods: Sequence[Method], calls: Calls
    ) -> None:
        self._address = address
        self._calls = calls
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
                # Envoy pings idle connections to notice a dead peer; by default the
                # server takes a few of them for an attack and hangs up.
                ("grpc.http2.max_ping_strikes", 0),
            ]
        )
        self._server.add_generic_rpc_handlers(tuple(map(self._handler, methods)))

    async def start(self) -> int:
        """Listen, and tell the port.

        Raises:
            RuntimeError: the address can't be bound.
        """
        if self._address.path is not None:
            # A socket file outlives a killed process and would refuse the bind.
            await asyncio.to_thread(Path(self._address.path).unlink, missing_ok=True)
        port = self._server.add_insecure_port(self._address.grpc_target)
        await self._server.start()
        return port

    async def stop(self, grace_s: float) -> None:
        await self._server.stop(grace_s)
        if self._address.path is not None:
            with suppress(FileNotFoundError):
                await asyncio.to_thread(Path(self._address.path).unlink)

    def _handler(self, method: Method) -> grpc.GenericRpcHandler:
        service, _, name = method.path.removeprefix("/").rpartition("/")
        return grpc.method_handlers_generic_handler(service, {name: self._rpc(method)})

    def _rpc(self, method: Method) -> "grpc.RpcMethodHandler[Any, Any]":
        match method:
            case Unary():
                return grpc.unary_unary_rpc_method_handler(self._unary(method))
            case Stream():
                return grpc.stream_stream_rpc_method_handler(self._stream(method))

    def _unary(self, method: Unary) -> Callable[[bytes, _Context], Awaitable[bytes]]:
        async def call(request: bytes, context: _Context) -> bytes:
            def metadata() -> Metadata:
                # Of a name that came twice the last counts.
                return dict(context.invocation_metadata() or ())

            try:
                return await self._calls.unary(method, request, metadata)
            except RpcError as error:
                await context.abort(_CODES[error.status.value], error.message)

        return call

    def _stream(
        self, method: Stream
    ) -> Callable[[AsyncIterator[bytes], _Context], AsyncIterator[bytes]]:
        async def call(
            requests: AsyncIterator[bytes], context: _Context
        ) -> AsyncIterator[bytes]:
            try:
                async with aclosing(self._calls.stream(method, requests)) as answers:
                    async for answer in answers:
                        yield answer
            except RpcError as error:
                await context.abort(_CODES[error.status.value], error.message)

        return call
