"""Counters in Redis: one script for all who ask together, Redis' own clock."""

import asyncio
import struct
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, starmap
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from ratelimit.lane import DEADLINE_S, Lane
from ratelimit.store import Charge, Outcome
from ratelimit.window import SUB_WINDOWS, Count
from runtime.contracts.counters import counter_script
from runtime.contracts.redis_keys import rate_limit_key
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
#: The first key of a caller, in the script's layout.
_BEGINS = 0x8000
#: A Count as the script answers it, after a byte that is 1 if the caller is admitted.
_COUNT = struct.Struct("<x3q")

#: Whose charges, and whether they are written.
_Asked = tuple[Sequence[Charge], bool]


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
        self._script = Script(counter_script(_SCRIPT))
        self._lanes: dict[str, Lane[_Asked]] = {}
        self._line = Line(client)
        self._is_cluster = is_cluster(client)
        self._carry = each_by_itself(client) if self._is_cluster else self._line.carry

    async def charge(self, charges: Sequence[Charge]) -> Outcome:
        if not self._is_cluster:
            return await self._ask(charges)
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
                await self._send([_probe(([], True))])

    async def aclose(self) -> None:
        await asyncio.gather(*(lane.aclose() for lane in self._lanes.values()))
        self._line.close()

    def _groups(self, charges: Sequence[Charge]) -> list[list[Charge]]:
        groups: dict[str, list[Charge]] = {}
        for one in charges:
            groups.setdefault(_tag(one.key), []).append(one)
        return list(groups.values())

    async def _ask(self, charges: Sequence[Charge], *, writes: bool = True) -> Outcome:
        node = node_name(self._client, charges[0].key) if self._is_cluster else ""
        lane = self._lanes.get(node) or self._lane(node)
        said = await lane.ask((charges, writes))
        return Outcome(said[0] == 1, tuple(starmap(Count, _COUNT.iter_unpack(said))))

    def _lane(self, node: str) -> Lane[_Asked]:
        lane = Lane(self._send, _probe, self._watch(node), self._deadline_s)
        self._lanes[node] = lane
        return lane

    async def _send(self, asked: Sequence[_Asked]) -> list[Any]:
        # A run begins and ends at the cost of two or three decisions. A cluster takes
        # the keys of one caller at a time.
        batches = [[one] for one in asked] if self._is_cluster else [asked]
        calls = [_call(batch) for batch in batches]
        answers = await self._script.run_many(self._carry, calls)
        return [*chain(*map(_of_each, batches, answers))]

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


def _call(asked: Sequence[_Asked]) -> Call:
    """One run of the script, which says how it wants its arguments."""
    kinds: dict[tuple[int, ...], int] = {}
    keys: list[str] = []
    layout: list[int] = []
    for charges, writes in asked:
        begins = _BEGINS
        for one in charges:
            kind = (one.limit, one.window_ms, one.hits, *one.mode.numbers, int(writes))
            layout.append(kinds.setdefault(kind, len(kinds) + 1) | begins)
            keys.append(one.key)
            begins = 0
    packed = struct.pack(f">{len(layout)}H", *layout)
    return keys, (SUB_WINDOWS, packed, *chain(*kinds))


def _of_each(batch: Sequence[_Asked], answer: Any) -> Sequence[Any]:
    """An answer or an error for each; an error of the run is everybody's."""
    return [answer] * len(batch) if isinstance(answer, Exception) else answer


def _probe(failed: _Asked) -> _Asked:
    """Asks the same server to write, and no caller's limit feels it."""
    charges, _ = failed
    tag = _tag(charges[0].key) if charges else "probe"
    key = rate_limit_key(tag, "probe")
    return [Charge(key, 1_000_000, _PROBE_WINDOW_MS)], True


def _tag(key: str) -> str:
    return key[key.index("{") + 1 : key.index("}")]


def _merged(
    charges: Sequence[Charge],
    groups: Sequence[Sequence[Charge]],
    outcomes: Sequence[Outcome],
) -> Outcome:
    found = {
        one: count
        for group, outcome in zip(groups, outcomes, strict=True)
        for one, count in zip(group, outcome.counts, strict=True)
    }
    return Outcome(
        all(one.admitted for one in outcomes), tuple(found[one] for one in charges)
    )
