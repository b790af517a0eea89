"""What a gRPC service is here: methods whose handlers are plain async functions.

Nothing in this module knows which transport carries the calls. Whatever a handler
raises unexpectedly becomes INTERNAL, is logged with its traceback and counted.
"""

import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
)
from dataclasses import dataclass
from enum import Enum
from typing import Any

from runtime.logs import get_logger
from runtime.metrics import Metrics

log = get_logger(__name__)

#: Envoy sends one batch per message; a stalled sink may get a large one.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

Metadata = Mapping[str, str | bytes]


class RpcStatus(Enum):
    """The codes that handlers and transports use, with their numbers on the wire."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """Raised by a handler: the caller gets this status and message."""

    def __init__(self, status: RpcStatus, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Unary:
    """One request, one answer. `path` is `/package.Service/Method`.

    `authorize` is given the call's metadata, and raises RpcError when it may not pass.
    `is_light`: nothing that is awaited needs a current task (runtime/steps.py).
    """

    path: str
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    handle: Callable[[Any], Awaitable[Any]]
    authorize: Callable[[Metadata], None] | None = None
    is_light: bool = False


@dataclass(frozen=True, slots=True)
class Stream:
    """Messages both ways; for client streaming yield once, at the end."""

    path: str
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    handle: Callable[[AsyncIterator[Any]], AsyncIterator[Any]]


Method = Unary | Stream


class Calls:
    """Runs handlers on encoded messages; the only errors that leave are RpcErrors."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._observe: dict[str, Callable[[float], None]] = {}

    async def unary(
        self, method: Unary, request: bytes, metadata: Callable[[], Metadata]
    ) -> bytes:
        """The encoded answer.

        Raises:
            RpcError: the handler's own, or INTERNAL.
        """
        started = time.perf_counter()
        try:
            if method.authorize is not None:
                method.authorize(metadata())
            return method.encode(await method.handle(method.decode(request)))
        except RpcError:
            raise
        except Exception as error:
            raise self._failure(method, error) from error
        finally:
            self._took(method)(time.perf_counter() - started)

    async def stream(
        self, method: Stream, requests: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """Encoded answers, as they come.

        Raises:
            RpcError: the handler's own, or INTERNAL.
        """
        answers = method.handle(_Decoded(requests, method.decode))
        try:
            async for answer in answers:
                yield method.encode(answer)
        except RpcError:
            raise
        except Exception as error:
            raise self._failure(method, error) from error
        finally:
            # A caller that hangs up ends us between two answers, and the handler too.
            if (close := getattr(answers, "aclose", None)) is not None:
                await close()

    def _took(self, method: Unary) -> Callable[[float], None]:
        observe = self._observe.get(method.path)
        if observe is None:
            observe = self._metrics.histogram("hubgate_rpc_seconds", method=method.path)
            self._observe[method.path] = observe
        return observe

    def _failure(self, method: Method, error: Exception) -> RpcError:
        log.error("rpc failed", method=method.path, exc_info=error)
        self._metrics.inc("hubgate_grpc_failures_total", method=method.path)
        return RpcError(RpcStatus.INTERNAL, "internal error")


class _Decoded:
    """Messages of `requests`, decoded.

    No generator: one whose `anext` is cancelled is at its end, this goes on.
    """

    def __init__(
        self, requests: AsyncIterator[bytes], decode: Callable[[bytes], Any]
    ) -> None:
        self._requests = requests
        self._decode = decode

    def __aiter__(self) -> "_Decoded":
        return self

    async def __anext__(self) -> Any:
        return self._decode(await anext(self._requests))
