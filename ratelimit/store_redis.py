"""Counters in Redis: one script, one round trip, Redis' own clock."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from ratelimit.lane import DEADLINE_S, Lane
from ratelimit.store import Charge, Outcome
from ratelimit.window import SUB_WINDOWS, Count
from runtime.contracts import rate_limit_key
from runtime.logs import get_logger
from runtime.metrics import Metrics
from runtime.redis import (
    Call,
    RedisUnavailable,
    Script,
    each_by_itself,
    is_cluster,
    node_name,
)
from runtime.redis_line import Line

log = get_logger(__name__)

_SCRIPT = Path(__file__).with_name("sliding_window.lua")
_PROBE_WINDOW_MS = 1000
_WARM_UP_S = 2.0


class RedisCounterStore:
    """Shared by every `ratelimit` process of an installation.

    In a cluster the counters of one hash tag are charged together. A decision over
    two tags (a caller's and a whole route's) looks at all of them first and then
    charges one tag after the other: two requests that race for the last place may
    both lose a hit of their caller, never both win.
    """

    def __init__(
        self, client: Redis, metrics: Metrics, *, deadline_s: float = DEADLINE_S
    ) -> None:
        self._client = client
        self._metrics = metrics
        self._deadline_s = deadline_s
        self._script = Script(_SCRIPT.read_text("utf-8"))
        self._lanes: dict[str, Lane] = {}
        self._line = Line(client)
        is_one = not is_cluster(client)
        self._carry = self._line.carry if is_one else each_by_itself(client)

    async def charge(self, charges: Sequence[Charge]) -> Outcome:
        groups = self._groups(charges)
        if len(groups) == 1:
            return await self._ask(charges)
        looks = await asyncio.gather(*(self._ask(one, writes=False) for one in groups))
        if not all(one.admitted for one in looks):
            return _merged(charges, groups, looks)
        outcomes = list(looks)
        for place, group in enumerate(groups):
            outcomes[place] = await self._ask(group)
            if not outcomes[place].admitted:
                break
        return _merged(charges, groups, outcomes)

    @property
    def is_down(self) -> bool:
        """Whether a server is not asked because it did not answer."""
        return any(lane.is_down for lane in self._lanes.values())

    async def warm_up(self) -> None:
        """Connect before the first request; an absent Redis is not waited for long."""
        with suppress(RedisUnavailable, TimeoutError):
            async with asyncio.timeout(_WARM_UP_S):
                await self._send([_probe(([], []))])

    async def aclose(self) -> None:
        await asyncio.gather(*(lane.aclose() for lane in self._lanes.values()))
        self._line.close()

    def _groups(self, charges: Sequence[Charge]) -> list[list[Charge]]:
        if not is_cluster(self._client):
            return [list(charges)]
        groups: dict[str, list[Charge]] = {}
        for one in charges:
            groups.setdefault(_tag(one.key), []).append(one)
        return list(groups.values())

    async def _ask(self, charges: Sequence[Charge], *, writes: bool = True) -> Outcome:
        call = _call(charges, writes=writes)
        lane = self._lane(node_name(self._client, charges[0].key))
        admitted, *numbers = await lane.ask(call)
        counts = zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True)
        return Outcome(bool(admitted), tuple(Count(*count) for count in counts))

    def _lane(self, node: str) -> Lane:
        lane = self._lanes.get(node)
        if lane is None:
            lane = Lane(self._send, _probe, self._watch(node), self._deadline_s)
            self._lanes[node] = lane
        return lane

    async def _send(self, calls: Sequence[Call]) -> list[Any]:
        return await self._script.run_many(self._carry, calls)

    def _watch(self, node: str) -> Any:
        def note(reason: str | None) -> None:
            down = sum(lane.is_down for lane in self._lanes.values())
            self._metrics.set("hubgate_ratelimit_stores_down", down)
            if reason is None:
                log.info("counters are shared again", node=node)
                return
            log.warning("counters not reachable", node=node, reason=reason)
            self._metrics.inc("hubgate_ratelimit_outages_total", reason=reason)

        return note


def _call(charges: Sequence[Charge], *, writes: bool) -> Call:
    arguments: list[int] = [SUB_WINDOWS, int(writes)]
    for one in charges:
        mode = one.mode
        arguments += (one.limit, one.window_ms, one.hits)
        arguments += (mode.adds.value, int(mode.denies))
    return [one.key for one in charges], arguments


def _probe(failed: Call) -> Call:
    """A call on the same server that writes, and that no caller's limit feels."""
    keys, _ = failed
    tag = _tag(str(keys[0])) if keys else "probe"
    key = rate_limit_key(tag, "probe")
    return _call([Charge(key, 1_000_000, _PROBE_WINDOW_MS)], writes=True)


def _tag(key: str) -> str:
    return key[key.index("{") + 1 : key.index("}")]


def _merged(
    charges: Sequence[Charge], groups: list[list[Charge]], outcomes: Sequence[Outcome]
) -> Outcome:
    found = {
        one: count
        for group, outcome in zip(groups, outcomes, strict=True)
        for one, count in zip(group, outcome.counts, strict=True)
    }
    return Outcome(
        all(one.admitted for one in outcomes), tuple(found[one] for one in charges)
    )
