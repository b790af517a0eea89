"""What a process counts, of the metrics in `runtime/metric_list.py`, and its text."""

from collections.abc import Callable
from threading import Lock
from typing import get_args

from prometheus_client import CollectorRegistry
from prometheus_client import generate_latest as generate

from runtime.metric import Kind, MetricName, Service
from runtime.metric_list import METRICS, OF, OF_ALL
from runtime.metric_values import Number, Series, Spread

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """A process's own values of those metrics; threads may count too.

    It tells what its `services` count, from 0 on, and what it has counted beside that:
    a 0 of what others count would say that all is well with them.
    """

    def __init__(self, *services: Service) -> None:
        self._registry = CollectorRegistry()
        self._lock = Lock()
        self._series: dict[str, tuple[Kind, Series]] = {}
        self._told: set[str] = set()
        # By name and labels as they are given, which is the quickest way to find one.
        self._numbers: dict[tuple[object, ...], Number] = {}
        self._spreads: dict[tuple[object, ...], Spread] = {}
        for metric in METRICS:
            series = Series(
                *(metric.name, metric.kind.value, metric.meaning),
                *(metric.labels, metric.buckets),
            )
            self._series[metric.name] = metric.kind, series
        for metric in (*OF_ALL, *(one for who in services for one in OF[who])):
            self._tell(metric.name)

    def inc(self, name: MetricName, amount: float = 1, **labels: str) -> None:
        number = self._numbers.get((name, *labels.items()))
        if number is None:
            number = self._number(name, Kind.COUNTER, labels)
        with self._lock:
            number.value += amount

    def counter(self, name: MetricName, *labels: str) -> Callable[..., None]:
        """Counts one, given the values of these labels: for what is counted often."""
        numbers: dict[tuple[str, ...], Number] = {}
        lock = self._lock

        def count(*values: str) -> None:
            number = numbers.get(values)
            if number is None:
                found = dict(zip(labels, values, strict=True))
                numbers[values] = number = self._number(name, Kind.COUNTER, found)
            with lock:
                number.value += 1

        return count

    def set(self, name: MetricName, value: float, **labels: str) -> None:
        self._number(name, Kind.GAUGE, labels).value = value

    def observe(self, name: MetricName, value: float, **labels: str) -> None:
        spread = self._spreads.get((name, *labels.items()))
        if spread is None:
            spread = self._spread(name, labels)
        with self._lock:
            spread.add(value)

    def histogram(self, name: MetricName, **labels: str) -> Callable[[float], None]:
        """Takes a value: for what is observed often."""
        spread, lock = self._spread(name, labels), self._lock

        def observe(value: float) -> None:
            with lock:
                spread.add(value)

        return observe

    def value(self, name: MetricName, **labels: str) -> float:
        """The present value of a counter or gauge; 0 when never touched."""
        return self._registry.get_sample_value(name, labels) or 0.0

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate(self._registry)

    def _number(self, name: MetricName, kind: Kind, labels: dict[str, str]) -> Number:
        with self._lock:
            found = self._member(name, kind, labels)
            if not isinstance(found, Number):
                raise TypeError(f"{name} is a histogram")
            if kind is Kind.COUNTER:
                self._numbers[(name, *labels.items())] = found
            return found

    def _spread(self, name: MetricName, labels: dict[str, str]) -> Spread:
        with self._lock:
            found = self._member(name, Kind.HISTOGRAM, labels)
            if not isinstance(found, Spread):
                raise TypeError(f"{name} is no histogram")
            self._spreads[(name, *labels.items())] = found
            return found

    def _member(
        self, name: MetricName, kind: Kind, labels: dict[str, str]
    ) -> Number | Spread:
        of, series = self._series[name]
        if of is not kind:
            raise TypeError(f"{name} is not a {kind.value.title()}")
        self._tell(name)
        return series.member(tuple(labels.items()))

    def _tell(self, name: str) -> None:
        if name not in self._told:
            self._told.add(name)
            self._registry.register(self._series[name][1])


def undeclared() -> set[str]:
    """Names in the type but not in the list, or the reverse: must be empty."""
    return set(get_args(MetricName)) ^ {metric.name for metric in METRICS}
