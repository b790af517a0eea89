"""Runs a coroutine step by step, as a Task does and without being one.

A Task costs 4 µs beside the work: it is kept in a weak set, and begins in a later turn
of the loop. This begins at once. There is no current task in it, so that it is for
coroutines that have no `asyncio.timeout` and the like of their own; what has goes into
a Task that the coroutine awaits.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Steps(Generic[T]):
    """One run; `ended` is called with it at its end, maybe before `start` returns."""

    __slots__ = ("_coroutine", "_ended", "_is_cancelled", "_result", "_waits", "error")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, T],
        ended: "Callable[[Steps[T]], None]",
    ) -> None:
        self._coroutine = coroutine
        self._ended = ended
        self._waits: asyncio.Future[Any] | None = None
        self._is_cancelled = False
        self._result: T | None = None
        #: What it ended with instead of a result, CancelledError included.
        self.error: BaseException | None = None

    def start(self) -> None:
        self._step(None)

    def cancel(self) -> None:
        """Let CancelledError be raised where it waits."""
        # What it waits for may have an answer already, which it has not seen.
        if self._waits is not None and not self._waits.cancel():
            self._is_cancelled = True

    def result(self) -> T:
        """What it returned.

        Raises:
            BaseException: what it raised.
        """
        if self.error is not None:
            raise self.error
        return self._result  # type: ignore[return-value]  # it has returned

    def _step(self, _: "asyncio.Future[Any] | None") -> None:
        self._waits = None
        try:
            if self._is_cancelled:
                self._is_cancelled = False
                waits = self._coroutine.throw(asyncio.CancelledError())
            else:
                # An awaited future tells by itself what became of it.
                waits = self._coroutine.send(None)
        except StopIteration as end:
            self._result = end.value
        except (KeyboardInterrupt, SystemExit) as error:
            self.error = error
            self._ended(self)
            raise
        except BaseException as error:  # noqa: BLE001 - whoever asked is told
            self.error = error
        else:
            self._wait_for(waits)
            return
        self._ended(self)

    def _wait_for(self, waits: Any) -> None:
        if waits is None:  # `asyncio.sleep(0)`: the others first
            waits = asyncio.get_running_loop().create_future()
            waits.set_result(None)
        else:
            # As a Task says that it has understood the `yield` of an `await`.
            waits._asyncio_future_blocking = False  # noqa: SLF001
        self._waits = waits
        waits.add_done_callback(self._step)
