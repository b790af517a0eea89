"""The calls of one connection, and the handlers that answer them."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from runtime.http2 import frames
from runtime.http2.call import Call
from runtime.http2.frames import StreamFault
from runtime.http2.headers import Head
from runtime.http2.inbox import PREFIX, Inbox
from runtime.http2.output import Output
from runtime.http2.server import Server
from runtime.logs import get_logger
from runtime.rpc import RpcError, RpcStatus, Stream, Unary
from runtime.steps import Steps

log = get_logger(__name__)

_INTERNAL_ERROR: Final = 2


class Running:
    """Calls by stream, each until its handler has ended, also when it was reset."""

    def __init__(
        self, server: Server, out: Output, on_empty: Callable[[], None]
    ) -> None:
        self._server = server
        self._out = out
        self._on_empty = on_empty
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, Call] = {}
        self._ticking: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def get(self, stream_id: int) -> Call | None:
        """The call that still goes on there."""
        call = self._calls.get(stream_id)
        return None if call is None or call.is_closed else call

    @property
    def handlers(self) -> list["asyncio.Future[None]"]:
        """Each done when a handler that still runs has ended."""
        waiting = [call for call in self._calls.values() if call.run is not None]
        for call in waiting:
            if call.ended is None:
                call.ended = self._loop.create_future()
        return [call.ended for call in waiting if call.ended is not None]

    def open(self, stream_id: int, head: Head, *, is_last: bool) -> None:
        """A new call; `is_last`: nothing follows its headers."""
        call = Call(stream_id, head)
        call.is_half_closed = is_last
        if len(self._calls) >= self._server.limits.streams:
            self._out.reset(call, frames.REFUSED_STREAM)
            return
        if head.refusal is not None:
            if head.refusal.block:
                self._out.end_with(call, head.refusal.block)
            else:
                self._out.reset(call, head.refusal.reset)
            return
        self._calls[stream_id] = call
        if head.timeout_s is not None:
            call.deadline = self._loop.time() + head.timeout_s
            self._tick_later()
        if isinstance(head.method, Stream):
            self._start(call, self._talk(call, head.method, self._inbox(call)))
        if is_last:
            self.end(call)

    def feed(self, call: Call, data: bytes, frame_size: int) -> None:
        """A part of the request.

        Raises:
            StreamFault: it was not asked for.
        """
        if call.is_half_closed:
            raise StreamFault(frames.STREAM_CLOSED)
        inbox = call.inbox or self._inbox(call)
        try:
            inbox.feed(data, frame_size)
        except RpcError as error:
            self.refuse(call, error)

    def feed_all(self, call: Call, data: bytes) -> bool:
        """The whole request of a unary call in one frame, as it mostly is."""
        method = call.head.method
        if (
            call.inbox is not None
            or call.is_half_closed
            or not isinstance(method, Unary)
            or len(data) < PREFIX
            or data[0]
            or int.from_bytes(data[1:PREFIX]) != len(data) - PREFIX
        ):
            return False
        call.is_half_closed = True
        self._answer(call, method, data[PREFIX:])
        return True

    def end(self, call: Call) -> None:
        """The request is complete."""
        if call.is_closed:
            return
        call.is_half_closed = True
        method = call.head.method
        inbox = call.inbox or self._inbox(call)
        try:
            inbox.end()
            if isinstance(method, Unary):
                self._answer(call, method, inbox.single())
        except RpcError as error:
            self.refuse(call, error)

    def refuse(self, call: Call, error: RpcError) -> None:
        self._out.refuse(call, error.status, error.message)
        self._stop(call)

    def reset(self, call: Call, code: int | None) -> None:
        """End it without an answer; None: the peer has done so."""
        if code is not None:
            self._out.reset(call, code)
        call.is_closed = True
        self._stop(call)

    def abandon(self) -> None:
        """The connection is gone."""
        if self._ticking is not None:
            self._ticking.cancel()
        for call in list(self._calls.values()):
            self.reset(call, None)

    def refuse_all(self, error: RpcError) -> None:
        for call in list(self._calls.values()):
            self.refuse(call, error)

    def _answer(self, call: Call, method: Unary, request: bytes) -> None:
        if method.is_light:
            answer = self._server.calls.unary(method, request, call.head.metadata)
            call.run = steps = Steps(answer, partial(self._answered, call))
            steps.start()
        else:
            self._start(call, self._answer_in_task(call, method, request))

    def _answered(self, call: Call, steps: Steps[bytes]) -> None:
        call.run = None
        error = steps.error
        if isinstance(error, RpcError):
            self._out.refuse(call, error.status, error.message)
        elif error is not None:
            self._fail(call, error)
        elif not self._out.answer(call, answer := steps.result()):
            self._start(call, self._send(call, answer))
            return
        self._forget(call)

    async def _answer_in_task(self, call: Call, method: Unary, request: bytes) -> None:
        try:
            answer = await self._server.calls.unary(method, request, call.head.metadata)
        except RpcError as error:
            self._out.refuse(call, error.status, error.message)
            return
        if not self._out.answer(call, answer):
            await self._send(call, answer)

    async def _send(self, call: Call, answer: bytes) -> None:
        await self._out.send(call, answer)
        self._out.end(call)

    async def _talk(self, call: Call, method: Stream, inbox: Inbox) -> None:
        answers = self._server.calls.stream(method, inbox)
        try:
            async for answer in answers:
                await self._out.send(call, answer)
        except RpcError as error:
            self._out.refuse(call, error.status, error.message)
        else:
            self._out.end(call)
        finally:
            await answers.aclose()

    def _start(self, call: Call, coroutine: "asyncio._CoroutineLike[None]") -> None:
        call.run = self._loop.create_task(coroutine)
        # Also when it is cancelled before its first step.
        call.run.add_done_callback(partial(self._leave, call))

    def _stop(self, call: Call) -> None:
        if call.run is None:
            self._forget(call)
        else:
            call.run.cancel()

    def _leave(self, call: Call, task: "asyncio.Task[None]") -> None:
        call.run = None
        self._fail(call, None if task.cancelled() else task.exception())
        self._forget(call)

    def _fail(self, call: Call, error: BaseException | None) -> None:
        """Whoever has no answer yet gets one, or a reset."""
        if error is not None and not isinstance(error, asyncio.CancelledError):
            log.error("http2 call failed", exc_info=error)
            self._out.reset(call, _INTERNAL_ERROR)
        elif not call.is_closed:
            # A handler that was cancelled by something of its own.
            self._out.refuse(call, RpcStatus.INTERNAL, "internal error")

    def _forget(self, call: Call) -> None:
        self._calls.pop(call.id, None)
        if call.inbox is not None:
            call.inbox.close()
        if call.ended is not None and not call.ended.done():
            call.ended.set_result(None)
        if not self._calls:
            self._on_empty()

    def _inbox(self, call: Call) -> Inbox:
        def credit(increment: int) -> None:
            if not call.is_closed:
                self._out.write(frames.window_update(call.id, increment))

        window = self._server.limits.stream_window
        call.inbox = Inbox(self._server.budget, window, credit)
        return call.inbox

    def _tick_later(self) -> None:
        if self._ticking is None:
            tick_s = self._server.limits.deadline_tick_s
            self._ticking = self._loop.call_later(tick_s, self._tick)

    def _tick(self) -> None:
        self._ticking = None
        now = self._loop.time()
        late = RpcError(RpcStatus.DEADLINE_EXCEEDED, "deadline exceeded")
        for call in list(self._calls.values()):
            if call.deadline is None or call.is_closed:
                continue
            if call.deadline <= now:
                self.refuse(call, late)
            else:
                self._tick_later()
