"""The way to one Redis server: together, within a deadline, and not while it is down.

Decisions asked for while a batch is under way travel in the next one, over one
connection. A batch without an answer within the deadline, or with an error that every
call would meet, takes the lane down: from then on nobody waits for Redis. A probe in
the background, which writes as a decision does, brings it up again.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ratelimit.store import CounterUnavailable
from runtime.logs import get_logger
from runtime.redis import RedisUnavailable
from runtime.steps import Steps

log = get_logger(__name__)

#: A batch's share of the 50 ms within which a decision is answered.
DEADLINE_S = 0.036
#: How soon an answering Redis is used again.
PROBE_INTERVAL_S = 0.25
PROBE_DEADLINE_S = 1.0
#: Whoever asked for one batch goes on while Redis works on the next: with 64 requests
#: under way, smaller or larger ones (12, 40) answer up to a tenth less.
MAX_BATCH = 24
#: In so many steps is the deadline counted,
_STEPS = 8
#: of which one that took so much longer than it should says nothing about Redis.
_LATE = 1.4
#: Envoy asks the next process after 0.2 s, and what was counted would count twice.
_STARVED_DEADLINE_S = 0.15

Q = TypeVar("Q")
#: Told why the lane went down, and None when it is up again.
Watch = Callable[[str | None], None]
_Asked = tuple[Q, "asyncio.Future[Any]"]


class Lane(Generic[Q]):
    """`ask` gives a call's answer or raises CounterUnavailable, both soon."""

    def __init__(
        self,
        send: Callable[[Sequence[Q]], Coroutine[Any, Any, Sequence[Any]]],
        probe: Callable[[Q], Q],
        watch: Watch,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._send = send
        self._probe_of = probe
        self._watch = watch
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Asked[Q]] = []
        self._carrying: _Carrying[Q] | None = None
        self._is_going = False
        self._prober: asyncio.Task[None] | None = None

    @property
    def is_down(self) -> bool:
        return self._prober is not None

    def ask(self, call: Q) -> "asyncio.Future[Any]":
        """The answer of Redis to this call; or its error is CounterUnavailable.

        Raises:
            CounterUnavailable: there will be none.
        """
        if self._prober is not None:
            raise CounterUnavailable("down")
        future = self._loop.create_future()
        self._waiting.append((call, future))
        if not self._is_going:
            # When all of this turn have asked.
            self._is_going = True
            self._loop.call_soon(self._go)
        return future

    async def aclose(self) -> None:
        carrying, self._carrying = self._carrying, None
        if carrying is not None:
            carrying.patience.end()
            carrying.steps.cancel()
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.gather(self._prober, return_exceptions=True)

    def _go(self) -> None:
        batch = self._waiting[:MAX_BATCH]
        del self._waiting[:MAX_BATCH]
        if not batch:
            self._is_going = False
            return
        steps = Steps(self._send([call for call, _ in batch]), self._arrived)
        # Cancelled when it is late; what is half answered is closed then.
        patience = _Patience(self._loop, self._deadline_s, steps.cancel)
        self._carrying = _Carrying(batch, steps, patience)
        steps.start()

    def _arrived(self, steps: Steps[Sequence[Any]]) -> None:
        carrying, self._carrying = self._carrying, None
        if carrying is None:
            return  # closed meanwhile
        carrying.patience.end()
        error = steps.error
        if error is None:
            _hand_out(carrying.batch, steps.result())
        elif isinstance(error, RedisUnavailable):
            self._go_down(str(error), carrying.batch)
        elif carrying.patience.is_over:
            self._go_down("TimeoutError", carrying.batch)
        else:
            # A defect, but still nobody may wait for ever.
            log.error("no answer from redis", exc_info=error)
            self._go_down(type(error).__name__, carrying.batch)
        self._go()

    def _go_down(self, reason: str, batch: list[_Asked[Q]]) -> None:
        failed = [*batch, *self._waiting]
        self._waiting.clear()
        if self._prober is None:
            self._prober = asyncio.create_task(self._probe(batch[0][0]))
            self._watch(reason)
        for _, future in failed:
            if not future.done():
                future.set_exception(CounterUnavailable(reason))

    async def _probe(self, failed: Q) -> None:
        call = self._probe_of(failed)
        while not await self._answers(call):  # noqa: ASYNC110 - Redis sets no event
            await asyncio.sleep(PROBE_INTERVAL_S)
        self._prober = None
        self._watch(None)

    async def _answers(self, call: Q) -> bool:
        try:
            async with asyncio.timeout(PROBE_DEADLINE_S):
                await self._send([call])
        except (RedisUnavailable, TimeoutError):
            return False
        except Exception:
            # A probe that ends would leave the lane down for ever.
            log.exception("no answer from redis")
            return False
        return True


@dataclass(slots=True)
class _Carrying(Generic[Q]):
    """A batch under way."""

    batch: list[_Asked[Q]]
    steps: Steps[Sequence[Any]]
    patience: "_Patience"


def _hand_out(batch: Sequence[_Asked[Q]], answers: Sequence[Any]) -> None:
    for (_, future), answer in zip(batch, answers, strict=True):
        if future.done():
            continue  # whoever asked is gone
        if isinstance(answer, Exception):
            future.set_exception(CounterUnavailable(type(answer).__name__))
        else:
            future.set_result(answer)


class _Patience:
    """Counts the deadline in steps, and leaves out those that ended late.

    A step is late when this machine has no time to run this process; then it may have
    none for Redis either, and giving up would let every process count for itself.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deadline_s: float,
        give_up: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._give_up = give_up
        self._step_s = deadline_s / _STEPS
        self._steps = _STEPS
        self._began = loop.time()
        self._end = self._began + max(deadline_s, _STARVED_DEADLINE_S)
        self._next = loop.call_later(self._step_s, self._step)
        self.is_over = False

    def end(self) -> None:
        self._next.cancel()

    def _step(self) -> None:
        now = self._loop.time()
        if now - self._began < self._step_s * _LATE:
            self._steps -= 1
        self._began = now
        if self._steps > 0 and now < self._end:
            self._next = self._loop.call_later(self._step_s, self._step)
        else:
            self.is_over = True
            self._give_up()
