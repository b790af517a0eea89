"""The sliding window as arithmetic on counts per sub-window.

Theory. A window of W milliseconds is cut into SUB_WINDOWS parts of s = W / SUB_WINDOWS.
Hits are counted per part; the part with index i holds the hits of [i*s, (i+1)*s). At
time t, in part c = floor(t / s), every hit younger than W lies in parts c - SUB_WINDOWS
to c. Their sum therefore never misses a hit of the last W milliseconds: no window of
length W admits more than the limit. It may count hits up to s older than W: that is
the accuracy lost, one sub-window.

A denied request writes nothing, so that insisting does not prolong the block.
`sliding_window.lua` is the same arithmetic, atomic in Redis; one contract suite runs
over both.
"""

from collections.abc import Sequence

from runtime.contracts.redis_keys import RATE_LIMIT_PARTS
from runtime.values import value

SUB_WINDOWS = RATE_LIMIT_PARTS

#: (index of the sub-window, hits in it), oldest first.
Bucket = tuple[int, int]


@value
class Count:
    """One counter's state, after the hit if it was admitted.

    `reset_ms`: until the oldest counted hit leaves the window. `retry_ms`: until this
    very request would be admitted if nobody else came; 0 when it was.
    """

    used: int
    reset_ms: int
    retry_ms: int


def part_ms(window_ms: int) -> int:
    """Length of a sub-window, rounded up: an exact multiple would count too little."""
    return -(-window_ms // SUB_WINDOWS)


def live(buckets: Sequence[Bucket], now_ms: int, window_ms: int) -> list[Bucket]:
    """The buckets that may hold hits of the last window."""
    oldest = now_ms // part_ms(window_ms) - SUB_WINDOWS
    return [bucket for bucket in buckets if bucket[0] >= oldest]


def add(buckets: list[Bucket], now_ms: int, window_ms: int, hits: int) -> list[Bucket]:
    """`buckets` with `hits` more; a clock that steps back adds to the last one."""
    index = now_ms // part_ms(window_ms)
    if buckets and buckets[-1][0] >= index:
        last, count = buckets[-1]
        return [*buckets[:-1], (last, count + hits)]
    return [*buckets, (index, hits)]


def used(buckets: Sequence[Bucket]) -> int:
    return sum(count for _, count in buckets)


def leaves_in_ms(index: int, now_ms: int, window_ms: int) -> int:
    """Until the bucket `index` is no longer counted."""
    return (index + SUB_WINDOWS + 1) * part_ms(window_ms) - now_ms


def retry_ms(
    buckets: Sequence[Bucket], now_ms: int, window_ms: int, *, limit: int, hits: int
) -> int:
    """Until enough old buckets have left for `hits` more; 0 = now.

    A request larger than the limit itself never fits: the whole window is answered.
    """
    over = used(buckets) + hits - limit
    if over <= 0:
        return 0
    for index, count in buckets:
        over -= count
        if over <= 0:
            return leaves_in_ms(index, now_ms, window_ms)
    return window_ms


def describe(
    buckets: Sequence[Bucket], now_ms: int, window_ms: int, retry: int
) -> Count:
    reset = leaves_in_ms(buckets[0][0], now_ms, window_ms) if buckets else 0
    return Count(used(buckets), reset, retry)
