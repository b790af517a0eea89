"""Alert rules: what is watched, and when it is too much. Pure.

A rule looks at the ledger's last `window` and compares one figure with its threshold:

    error_rate  share of calls with status 400 and above, 0 to 1
    latency     milliseconds that a share (`quantile`) of the calls took at most
    spend       credits, adjustments included
    volume      calls
    anomaly     robust z-score of the last whole hour against the same hour of the week
                in the weeks before (median and MAD); `of` says which figure

`below` looks only as far as the ledger is complete: rows that are still on their way
are no lack of calls. Where nobody has ever said how far that is, it does not look.
`above` looks up to now: they could only make it more.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from control.values import Duration, Name, Part, seconds
from control.webhook_policy import check_url
from control.window_sums import HOUR, Filter, Sums, Window

#: Each is asked of the ledger again and again.
MAX_RULES: Final = 200
_WEEK: Final = timedelta(days=7)
WEEKS: Final = 8
#: Below so many weeks with calls, nothing is known of what is usual.
_LEAST_WEEKS: Final = 4
#: Makes the MAD of a normal distribution its standard deviation.
_NORMAL: Final = 1.4826
_LONGEST_S: Final = 168 * 3600.0
_SHORTEST_S: Final = 60.0
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}", re.ASCII)
_QUANTILES: Final = (0.5, 0.95, 0.99)
_OWN_LABELS: Final = frozenset({"alertname", "metric"})


class Metric(StrEnum):
    """As this module's docstring says."""

    ERROR_RATE = "error_rate"
    LATENCY = "latency"
    SPEND = "spend"
    VOLUME = "volume"
    ANOMALY = "anomaly"


def _check_window(text: str) -> str:
    if not _SHORTEST_S <= seconds(text) <= _LONGEST_S:
        raise ValueError("give 1m to 168h")
    return text


def _check_label(name: str) -> str:
    if not _LABEL.fullmatch(name) or name in _OWN_LABELS:
        raise ValueError("give letters, digits and _; alertname and metric are taken")
    return name


def _check_quantile(share: float) -> float:
    if share not in _QUANTILES:
        raise ValueError("give 0.5, 0.95 or 0.99")
    return share


def _check_text(text: str) -> str:
    if "\0" in text:
        raise ValueError("give a text without the character NUL")
    return text


Label = Annotated[str, AfterValidator(_check_label)]
Text = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_check_text)]
Url = Annotated[str, Field(max_length=2048), AfterValidator(check_url)]


class _Camel(Part):
    # A webhook may hold a secret, and what a document says wrong may be logged.
    model_config = ConfigDict(alias_generator=to_camel, hide_input_in_errors=True)


class Where(_Camel):
    """Which calls are watched; what is left out is any."""

    user_id: Text | None = None
    service: Text | None = None
    model: Text | None = None
    route: Text | None = None

    def filter(self) -> Filter:
        return Filter(**self.model_dump())


class AlertRule(_Camel):
    """One figure, its threshold, and whom to tell."""

    id: Name
    metric: Metric
    operator: Literal["above", "below"] = "above"
    threshold: float = Field(ge=0, le=1e15, allow_inf_nan=False)
    window: Annotated[Duration, AfterValidator(_check_window)] = "5m"
    #: The figure must be beyond the threshold for so long.
    hold: Duration = Field(default="0s", alias="for")
    #: Fewer calls than that say nothing of rates and latencies.
    min_requests: int = Field(default=1, ge=1, le=1_000_000_000)
    quantile: Annotated[float, AfterValidator(_check_quantile)] = 0.95
    of: Literal["requests", "errors", "tokens", "credits"] = "requests"
    where: Where = Where()
    webhook: Url
    labels: dict[Label, Text] = Field(default_factory=dict, max_length=16)
    enabled: bool = True

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if self.metric is Metric.ANOMALY and self.window != "1h":
            raise ValueError('an anomaly is one of whole hours: give window "1h"')
        if self.metric is Metric.ERROR_RATE and self.threshold > 1:
            raise ValueError("an error rate is at most 1")
        return self

    def document(self) -> dict[str, Any]:
        """As it was given, for storing and showing."""
        return self.model_dump(mode="json", by_alias=True)

    def all_labels(self) -> dict[str, str]:
        """What names the alert to a receiver."""
        where = self.where.model_dump(exclude_none=True)
        names = {"alertname": self.id, "metric": self.metric.value}
        return {**where, **self.labels, **names}

    def looks_at(self, now: datetime, through: datetime | None) -> Window | None:
        """The window that ends now; for `below`, where the ledger is complete."""
        end = now
        if self.operator == "below":
            if through is None:
                return None
            end = min(now, through)
        if self.metric is Metric.ANOMALY:
            end = end.replace(minute=0, second=0, microsecond=0)
        return Window(end - timedelta(seconds=seconds(self.window)), end)

    def figure(self, sums: Sums) -> float | None:
        """What is compared; None: too few calls to say."""
        is_known = sums.requests >= self.min_requests
        match self.metric:
            case Metric.ERROR_RATE:
                return sums.errors / sums.requests if is_known else None
            case Metric.LATENCY:
                return sums.quantile(self.quantile) if is_known else None
            case Metric.SPEND:
                return float(sums.credits)
            case Metric.VOLUME:
                return float(sums.requests)
            case Metric.ANOMALY:
                return float(getattr(sums, self.of))

    def is_beyond(self, value: float | None) -> bool:
        """Whether the figure is beyond the threshold."""
        if value is None:
            return False
        if self.operator == "above":
            return value > self.threshold
        below = -self.threshold if self.metric is Metric.ANOMALY else self.threshold
        return value < below


def usual_hours(hour: datetime) -> list[datetime]:
    """The same hour of the week, in the weeks before."""
    return [hour - number * _WEEK for number in range(1, WEEKS + 1)]


def hour_of(window: Window) -> datetime:
    return window.end - HOUR


def score(value: float, usual: Sequence[float]) -> tuple[float | None, dict[str, Any]]:
    """The robust z-score of `value`, and what it is judged by.

    None: too few weeks with calls. Where the weeks hardly differ, the spread counts as
    at least the square root of the median, as if calls came by chance (Poisson).
    """
    known = [one for one in usual if one > 0]
    evidence: dict[str, Any] = {"value": value, "sameHours": list(usual)}
    if len(known) < _LEAST_WEEKS:
        return None, evidence
    middle = median(known)
    spread = max(_NORMAL * median(abs(one - middle) for one in known), middle**0.5)
    return (value - middle) / spread, {**evidence, "median": middle, "spread": spread}
