"""What becomes of an alert: inactive, pending, firing, and what is told of it. Pure.

One message when it begins to fire and one when it is over; while it fires, none. What
is told in the end has the labels of the beginning, whatever the rule says by then. A
rule that says other labels or another webhook is of another alert: the old one is over.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from control.alert_rules import AlertRule
from control.parameters import shown
from control.values import seconds

#: Alertmanager's time for "not over yet".
_NEVER: Final = "0001-01-01T00:00:00Z"


class Status(StrEnum):
    """`pending`: beyond the threshold, not for long enough yet."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"


@dataclass(frozen=True, slots=True)
class Fired:
    """What was told when it began to fire."""

    labels: Mapping[str, str]
    starts_at: datetime
    webhook: str

    @property
    def fingerprint(self) -> str:
        text = json.dumps(dict(self.labels), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertState:
    """Of one rule; `since` is when it got this status."""

    status: Status = Status.INACTIVE
    since: datetime
    value: float | None = None
    evidence: Mapping[str, Any] | None = None
    evaluated_at: datetime | None = None
    #: Why it could not be evaluated the last time; the status is that of before.
    error: str | None = None
    fired: Fired | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be told, once; `status` is Alertmanager's."""

    rule: str
    status: str
    fired: Fired
    body: Mapping[str, Any]


def step(
    rule: AlertRule,
    state: AlertState,
    now: datetime,
    *,
    value: float | None,
    evidence: Mapping[str, Any],
) -> tuple[AlertState, Message | None]:
    """The state after an evaluation, and what is to be told."""
    seen = replace(
        state, value=value, evidence=dict(evidence), evaluated_at=now, error=None
    )
    if not rule.is_beyond(value) or _is_of_another(rule, state.fired):
        if state.fired is not None:
            return _over(seen, now), resolved(rule.id, state.fired, now, evidence)
        if state.status is Status.INACTIVE:
            return seen, None
        return replace(seen, status=Status.INACTIVE, since=now), None
    if state.status is Status.FIRING:
        return seen, None
    since = state.since if state.status is Status.PENDING else now
    if (now - since).total_seconds() < seconds(rule.hold):
        return replace(seen, status=Status.PENDING, since=since), None
    fired = Fired(rule.all_labels(), now, rule.webhook)
    message = Message(
        rule.id, "firing", fired, _body("firing", fired, _NEVER, _said(rule, evidence))
    )
    return replace(seen, status=Status.FIRING, since=now, fired=fired), message


def resolved(
    rule: str, fired: Fired, now: datetime, evidence: Mapping[str, Any]
) -> Message:
    """It is over: beyond the threshold no more, or the rule is gone."""
    said = {"summary": f"{rule} is over", **_texts(evidence)}
    return Message(rule, "resolved", fired, _body("resolved", fired, shown(now), said))


def failed(state: AlertState, reason: str) -> AlertState:
    """Not evaluated: nothing changes but that this is said."""
    return replace(state, error=reason)


def to_document(state: AlertState) -> dict[str, Any]:
    """As it is stored and shown."""
    at, fired = state.evaluated_at, state.fired
    return {
        "status": state.status.value,
        "since": shown(state.since),
        "value": state.value,
        "evidence": state.evidence,
        "evaluatedAt": None if at is None else shown(at),
        "error": state.error,
        "fired": None
        if fired is None
        else {
            "labels": dict(fired.labels),
            "startsAt": shown(fired.starts_at),
            "fingerprint": fired.fingerprint,
            "webhook": fired.webhook,
        },
    }


def from_document(document: Mapping[str, Any]) -> AlertState:
    """What `to_document` gave."""
    fired, at = document["fired"], document["evaluatedAt"]
    return AlertState(
        status=Status(document["status"]),
        since=datetime.fromisoformat(document["since"]),
        value=document["value"],
        evidence=document["evidence"],
        evaluated_at=None if at is None else datetime.fromisoformat(at),
        error=document["error"],
        fired=None
        if fired is None
        else Fired(
            fired["labels"],
            datetime.fromisoformat(fired["startsAt"]),
            fired["webhook"],
        ),
    )


def new(now: float) -> AlertState:
    return AlertState(since=datetime.fromtimestamp(now, UTC))


def _over(state: AlertState, now: datetime) -> AlertState:
    return replace(state, status=Status.INACTIVE, since=now, fired=None)


def _is_of_another(rule: AlertRule, fired: Fired | None) -> bool:
    if fired is None:
        return False
    return dict(fired.labels) != rule.all_labels() or fired.webhook != rule.webhook


def _said(rule: AlertRule, evidence: Mapping[str, Any]) -> dict[str, str]:
    where = ", ".join(
        f"{name}={value}"
        for name, value in rule.where.model_dump(exclude_none=True).items()
    )
    value = evidence.get("figure")
    shown_value = f"{value:g}" if isinstance(value, int | float) else "unknown"
    return {
        "summary": f"{rule.metric} is {shown_value}, {rule.operator} "
        f"{rule.threshold:g}, over {rule.window}" + (f" ({where})" if where else ""),
        "threshold": f"{rule.threshold:g}",
        **_texts(evidence),
    }


def _texts(evidence: Mapping[str, Any]) -> dict[str, str]:
    """Annotations are texts."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in evidence.items()
        if value is not None
    }


def _body(
    status: str, fired: Fired, ends_at: str, annotations: Mapping[str, str]
) -> dict[str, Any]:
    """Alertmanager's webhook, version 4, with one alert.

    https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
    """
    name, labels = fired.labels["alertname"], dict(fired.labels)
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{name}"}}',
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "hubgate",
        "groupLabels": {"alertname": name},
        "commonLabels": labels,
        "commonAnnotations": dict(annotations),
        "externalURL": "",
        "alerts": [
            {
                "status": status,
                "labels": labels,
                "annotations": dict(annotations),
                "startsAt": shown(fired.starts_at),
                "endsAt": ends_at,
                "generatorURL": "",
                "fingerprint": fired.fingerprint,
            }
        ],
    }
