"""What a process has counted, and how Prometheus' library reads it.

The library's own counters take 2 µs a count, and a decision counts four times. Here a
count is one look-up and one addition.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import Metric as Family

Labels = tuple[tuple[str, str], ...]


class Number:
    """The value of a counter or gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """What is told, with what it adds to name and labels."""
        yield "", {}, self.value


class Spread:
    """The values of a histogram, by bucket."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        # A bucket holds what is at most its bound.
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """What is told, with what it adds to name and labels."""
        names = (*map(str, map(float, self._bounds)), "+Inf")
        totals = list(accumulate(self._counts))
        for name, total in zip(names, totals, strict=True):
            yield "_bucket", {"le": name}, total
        yield "_count", {}, totals[-1]
        yield "_sum", {}, self._sum


class Series:
    """One metric of a process: a number or spread for each set of labels."""

    def __init__(
        self,
        name: str,
        kind: str,
        meaning: str,
        labels: Sequence[str],
        bounds: Sequence[float],
    ) -> None:
        self._name = name
        self._kind = kind
        self._meaning = meaning
        self._labels = frozenset(labels)
        self._bounds = bounds
        self._members: dict[frozenset[tuple[str, str]], Number | Spread] = {}
        if not labels:
            self.member(())  # told from the start

    def member(self, labels: Labels) -> Number | Spread:
        """The one with these labels, in whatever order they are.

        Raises:
            ValueError: the metric has others.
        """
        if {name for name, _ in labels} != self._labels:
            raise ValueError(f"{self._name} has the labels {sorted(self._labels)}")
        key = frozenset(labels)
        if key not in self._members:
            is_spread = self._kind == "histogram"
            self._members[key] = Spread(self._bounds) if is_spread else Number()
        return self._members[key]

    def collect(self) -> Iterator[Family]:
        """For Prometheus' registry."""
        family = Family(self._name.removesuffix("_total"), self._meaning, self._kind)
        for labels, member in list(self._members.items()):
            for suffix, more, value in member.samples():
                family.add_sample(self._name + suffix, {**dict(labels), **more}, value)
        yield family
