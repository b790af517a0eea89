"""The blacklist with answers kept, and withdrawn by Redis itself when they change.

RESP3 client tracking in broadcast mode (Redis: "client-side caching"): one connection
hears of every change under `bl:`, whoever made it. It is also what notices that Redis
is away: it pings, and while it can't connect nobody waits for Redis in vain.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from runtime.clock import Clock
from runtime.contracts.redis_keys import BLACKLIST_PREFIX
from runtime.identity.blacklist import BlacklistUnavailable
from runtime.identity.blacklist_redis import Keys, judge, keys_of, read, read_together
from runtime.identity.tokens import Claims
from runtime.identity.verdicts import Answers, Verdicts
from runtime.lifecycle import wait_or_stop
from runtime.logs import get_logger
from runtime.metrics import Metrics
from runtime.redis import RedisUnavailable, each_by_itself, is_cluster, wrap_errors
from runtime.redis_line import Line

log = get_logger(__name__)

#: Silence for two of these means that tracking is lost: less than the 250 ms within
#: which a revocation must act.
HEARTBEAT_S = 0.1
RECONNECT_S = 0.1
#: After a failure one question in so long is put to Redis, the others are not.
PROBE_S = 0.1
#: How long an answer is waited for.
TIMEOUT_S = 0.1


class TrackedBlacklist:
    """A known token costs no round trip; `run` must be running for that."""

    def __init__(
        self,
        client: Redis,
        verdicts: Verdicts,
        clock: Clock,
        metrics: Metrics,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._client = client
        self._verdicts = verdicts
        self._clock = clock
        self._metrics = metrics
        self._count = metrics.counter("hubgate_blacklist_answers_total", "source")
        self._is_cluster = is_cluster(client)
        self._timeout_s = timeout_s
        self._line = Line(client)
        self._carry = each_by_itself(client) if self._is_cluster else self._line.carry
        self._look_up = read if self._is_cluster else read_together
        self._is_failing = False
        self._probe_at = 0.0
        self._waiting: list[tuple[Keys, asyncio.Future[Answers]]] = []
        self._flushing: set[asyncio.Task[None]] = set()

    async def is_revoked(self, claims: Claims) -> bool:
        keys = keys_of(claims)
        answers = self._verdicts.fresh(keys)
        source = "cache"
        if answers is None:
            answers, source = await self._look(keys)
        self._count(source)
        return judge(claims, keys, answers)

    async def _look(self, keys: Keys) -> tuple[Answers, str]:
        try:
            return await self._ask(keys), "redis"
        except BlacklistUnavailable:
            answers = self._verdicts.stale(keys)
            if answers is None:
                raise
            return answers, "stale"

    async def _ask(self, keys: Keys) -> Answers:
        now = self._clock.monotonic()
        if self._is_failing:
            if now < self._probe_at:
                raise BlacklistUnavailable("not asked: Redis did not answer just now")
            self._probe_at = now + PROBE_S
        answers: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()
        if not self._waiting:
            flush = asyncio.create_task(self._flush())
            self._flushing.add(flush)
            flush.add_done_callback(self._flushing.discard)
        self._waiting.append((keys, answers))
        return await answers

    async def _flush(self) -> None:
        """One round trip for all that was asked in this turn of the loop."""
        batch, self._waiting = self._waiting, []
        question = self._verdicts.ask()
        found: list[Answers | None]
        try:
            found = await self._read([keys for keys, _ in batch])
            self._is_failing = False
        except BlacklistUnavailable as error:
            log.warning("Redis does not answer for the blacklist", reason=str(error))
            # Tracked: Redis is alive, and one question was unlucky. Of a cluster only
            # one node may be away.
            self._is_failing = not (self._verdicts.is_tracked or self._is_cluster)
            self._probe_at = self._clock.monotonic() + PROBE_S
            found = [None] * len(batch)
        for (_, waiter), answers in zip(batch, found, strict=True):
            if answers is not None:
                self._verdicts.keep(question, answers)
            if waiter.done():
                continue
            if answers is None:
                waiter.set_exception(BlacklistUnavailable("no answer"))
            else:
                waiter.set_result(answers)

    async def _read(self, batch: list[Keys]) -> list[Answers | None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._look_up(self._carry, batch)
        except TimeoutError as error:
            raise BlacklistUnavailable("TimeoutError") from error

    async def run(self, stop: asyncio.Event) -> None:
        """Track until `stop`; comes back after every loss."""
        try:
            await self._run(stop)
        finally:
            self._line.close()

    async def _run(self, stop: asyncio.Event) -> None:
        if self._is_cluster:
            # Each node would have to be tracked for the keys that it holds now.
            log.warning("a Redis cluster is asked for every decision")
            await stop.wait()
            return
        while not stop.is_set():
            try:
                with wrap_errors():
                    await self._track(stop)
            except RedisUnavailable as error:
                log.warning("tracking lost, verdicts ended", reason=str(error))
            except Exception:  # it must come back, whatever the driver does
                log.exception("tracking failed, verdicts ended")
            finally:
                self._verdicts.end()
                self._metrics.set("hubgate_blacklist_tracking", 0)
            await wait_or_stop(stop, RECONNECT_S)

    async def _track(self, stop: asyncio.Event) -> None:
        connection = self._client.connection_pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        try:
            await connection.connect()
            # The driver offers no public way to hear these messages.
            connection._parser.set_invalidation_push_handler(self._on_change)  # noqa: SLF001
            await connection.send_command(
                *("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", BLACKLIST_PREFIX)
            )
            await connection.read_response()
            self._verdicts.begin()
            self._is_failing = False
            self._metrics.set("hubgate_blacklist_tracking", 1)
            log.info("tracking the blacklist")
            await self._listen(connection, stop)
        finally:
            with suppress(Exception):
                await connection.disconnect(nowait=True)

    async def _listen(
        self, connection: AbstractConnection, stop: asyncio.Event
    ) -> None:
        is_asked = False
        while not stop.is_set():
            message = await connection.read_response(
                timeout=HEARTBEAT_S, push_request=True
            )
            if message is not None:
                is_asked = False
                self._verdicts.confirm()
            elif is_asked:
                raise RedisUnavailable("no heartbeat")
            else:
                is_asked = True
                await connection.send_command("PING")

    async def _on_change(self, message: list[bytes | Iterable[bytes] | None]) -> object:
        keys = message[1]
        if keys is None or isinstance(keys, bytes):
            self._verdicts.withdraw(None)
        else:
            self._verdicts.withdraw(key.decode("utf-8", "replace") for key in keys)
        self._metrics.inc("hubgate_blacklist_changes_total")
        # Something that is not None, which stands for a read that ran out of time.
        return message
