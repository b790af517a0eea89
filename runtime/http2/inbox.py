"""What has come of a call's request: bytes in, whole messages out."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from runtime.http2 import frames
from runtime.http2.frames import StreamFault
from runtime.rpc import MAX_MESSAGE_BYTES, RpcError, RpcStatus

#: A message's flag and length (gRPC over HTTP/2, "Length-Prefixed-Message").
PREFIX: Final = 5
#: What Python takes for bytes of any length beside themselves: many tiny pieces
#: must not be cheaper for the peer than for us.
_OVERHEAD: Final = 64


class Budget:
    """Memory for unread requests, shared by all connections of a server."""

    def __init__(self, capacity: int) -> None:
        self._free = capacity

    def take(self, size: int) -> None:
        """Take, or give back what is negative.

        Raises:
            RpcError: nothing is left.
        """
        if size > self._free:
            raise RpcError(RpcStatus.RESOURCE_EXHAUSTED, "too much unread")
        self._free -= size


class Inbox:
    """The request messages of one call, in order; iterated by one handler.

    `credit(n)` lets the peer send n more bytes. What is in a whole message counts
    against its window until the handler takes it; a message in the making does not, so
    that it may be larger than the window.
    """

    def __init__(
        self, budget: Budget, window: int, credit: Callable[[int], None]
    ) -> None:
        self._budget = budget
        self._window = window
        self._credit = credit
        self._parts: list[bytes] = []
        self._size = 0  # of the parts
        self._needed = PREFIX  # until a message is whole
        self._messages: deque[bytes] = deque()
        self._waiting = 0  # bytes in messages
        self._owed = 0  # bytes without credit
        self._held = 0  # of the budget
        self._is_over = False
        self._arrival: asyncio.Future[None] | None = None

    def feed(self, data: bytes, frame_size: int) -> None:
        """Take in what a DATA frame of this size brought.

        Raises:
            StreamFault: more than the window allows.
            RpcError: the call can't go on.
        """
        self._owed += frame_size
        if self._owed > self._window:
            raise StreamFault(frames.FLOW_CONTROL_ERROR)
        self._parts.append(data)
        self._size += len(data)
        if self._size >= self._needed:
            self._split()
            self._wake()
        self._settle()

    def end(self) -> None:
        """No more comes.

        Raises:
            RpcError: it ended within a message.
        """
        self._is_over = True
        if self._size:
            raise RpcError(RpcStatus.INTERNAL, "truncated message")
        self._wake()

    def single(self) -> bytes:
        """The one message of a unary call, which stays accounted for until `close`.

        Raises:
            RpcError: there is none, or a second.
        """
        if len(self._messages) != 1:
            raise RpcError(RpcStatus.UNIMPLEMENTED, "not one message")
        return self._messages[0]

    def close(self) -> None:
        """Forget everything."""
        self._parts.clear()
        self._messages.clear()
        self._size = self._waiting = 0
        self._budget.take(-self._held)
        self._held = 0

    def __aiter__(self) -> "Inbox":
        return self

    async def __anext__(self) -> bytes:
        while not self._messages:
            if self._is_over:
                raise StopAsyncIteration
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        message = self._messages.popleft()
        self._waiting -= len(message)
        self._settle()
        return message

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _split(self) -> None:
        data = b"".join(self._parts)
        position, end, needed = 0, len(data), PREFIX
        while end - position >= PREFIX:
            size = _size(data, position)
            needed = PREFIX + size
            if end - position < needed:
                break
            message = data[position + PREFIX : position + needed]
            self._messages.append(message)
            self._waiting += size
            position += needed
            needed = PREFIX
        rest = data[position:]
        self._parts = [rest] if rest else []
        self._size = len(rest)
        self._needed = needed

    def _settle(self) -> None:
        pieces = len(self._parts) + len(self._messages)
        held = self._size + self._waiting + _OVERHEAD * pieces
        self._budget.take(held - self._held)
        self._held = held
        half = self._window // 2
        if self._owed >= half and self._waiting <= half and not self._is_over:
            self._credit(self._owed)
            self._owed = 0


def _size(data: bytes, position: int) -> int:
    """Of the message whose prefix stands at `position`.

    Raises:
        RpcError: it is compressed or too large.
    """
    if data[position]:
        raise RpcError(RpcStatus.UNIMPLEMENTED, "compression is not supported")
    size = int.from_bytes(data[position + 1 : position + PREFIX])
    if size > MAX_MESSAGE_BYTES:
        raise RpcError(RpcStatus.RESOURCE_EXHAUSTED, "message too large")
    return size
