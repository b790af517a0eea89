"""What is watched, when it is too much, and what becomes of an alert then."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from control.alert_rules import AlertRule, score, usual_hours
from control.alert_state import (
    AlertState,
    Message,
    Status,
    from_document,
    new,
    step,
    to_document,
)
from control.webhook_policy import Forbidden, check, target
from control.window_sums import Sums, Window
from tests.builders import NOW

AT = datetime.fromtimestamp(NOW, UTC)
MINUTE = timedelta(minutes=1)


def a_rule(**changes: Any) -> AlertRule:
    return AlertRule.model_validate(
        {
            "id": "r",
            "metric": "volume",
            "threshold": 10,
            "webhook": "https://alerts.example.com/",
            **changes,
        }
    )


def sums(requests: int, errors: int = 0, **figures: Any) -> Sums:
    return Sums(requests=requests, errors=errors, **figures)


class TestRule:
    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"metric": "weather"}, "metric"),
            ({"threshold": -1}, "threshold"),
            ({"threshold": float("nan")}, "threshold"),
            ({"window": "30s"}, "window"),
            ({"window": "169h"}, "window"),
            ({"quantile": 0.9}, "quantile"),
            ({"webhook": "ftp://a/"}, "webhook"),
            ({"webhook": "https://me:pass@a/"}, "webhook"),
            ({"labels": {"alertname": "x"}}, "labels.alertname.[key]"),
            ({"where": {"address": "x"}}, "where.address"),
            ({"color": "red"}, "color"),
            ({"metric": "error_rate", "threshold": 2}, ""),
            ({"metric": "anomaly", "window": "5m"}, ""),
        ],
    )
    def test_a_rule_that_can_not_be_meant_is_refused_by_field(
        self, changes: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(ValidationError) as raised:
            a_rule(**changes)

        places = [".".join(map(str, one["loc"])) for one in raised.value.errors()]
        assert places == [field]

    def test_a_webhook_that_is_refused_is_not_in_the_error(self) -> None:
        with pytest.raises(ValidationError) as raised:
            a_rule(webhook="https://alerts.example.com/s3cret#x")

        assert "s3cret" not in str(raised.value)

    def test_a_rule_is_shown_as_it_was_given(self) -> None:
        rule = a_rule(minRequests=5, where={"userId": "u-1"}, **{"for": "1m"})

        assert AlertRule.model_validate(rule.document()) == rule
        assert rule.document()["minRequests"] == 5
        assert rule.document()["for"] == "1m"

    @pytest.mark.parametrize(
        ("changes", "found", "figure"),
        [
            ({"metric": "volume"}, sums(7), 7),
            ({"metric": "spend"}, sums(7, credits=30), 30),
            ({"metric": "error_rate", "threshold": 1}, sums(8, 2), 0.25),
            ({"metric": "error_rate", "threshold": 1}, sums(0), None),
            (
                {"metric": "error_rate", "threshold": 1, "minRequests": 9},
                sums(8, 8),
                None,
            ),
            ({"metric": "latency"}, sums(1, latency=(0, 0, 0, 1)), 9.75),
            ({"metric": "latency"}, sums(0), None),
        ],
    )
    def test_the_figure_is_that_of_the_metric(
        self, changes: dict[str, Any], found: Sums, figure: float | None
    ) -> None:
        assert a_rule(**changes).figure(found) == pytest.approx(figure)

    def test_a_lack_is_only_looked_for_where_the_ledger_is_complete(self) -> None:
        through = AT - 3 * MINUTE

        above = a_rule(operator="above").looks_at(AT, through)
        below = a_rule(operator="below").looks_at(AT, through)

        assert above == Window(AT - 5 * MINUTE, AT)
        assert below == Window(AT - 8 * MINUTE, through)

    def test_where_that_is_nobody_knows_there_is_no_lack(self) -> None:
        above = a_rule(operator="above").looks_at(AT, None)

        assert above == Window(AT - 5 * MINUTE, AT)
        assert a_rule(operator="below").looks_at(AT, None) is None

    def test_an_anomaly_is_one_of_the_last_whole_hour(self) -> None:
        window = a_rule(metric="anomaly", window="1h").looks_at(AT, None)

        assert window is not None
        assert window.end <= AT < window.end + 60 * MINUTE
        assert (window.end.minute, window.end - window.start) == (0, 60 * MINUTE)
        assert usual_hours(AT)[0] == AT - timedelta(days=7)


class TestScore:
    def test_an_hour_like_the_others_is_no_anomaly(self) -> None:
        value, evidence = score(101, [100, 98, 103, 99, 101, 97, 104, 100])

        assert value is not None
        assert abs(value) < 1
        assert evidence["median"] == 100

    def test_one_odd_week_hides_nothing(self) -> None:
        value, _ = score(200, [100, 98, 103, 5000, 101, 97, 104, 100])

        assert value is not None
        assert value > 5

    def test_without_history_nobody_knows(self) -> None:
        assert score(500, [0, 0, 0, 0, 0, 90, 91, 92])[0] is None

    @given(st.floats(0, 1e12), st.lists(st.floats(0, 1e12), min_size=8, max_size=8))
    def test_it_is_always_a_number_or_nothing(
        self, value: float, usual: list[float]
    ) -> None:
        found, _ = score(value, usual)

        assert found is None or found == found  # noqa: PLR0124 - NaN differs from itself


def walk(rule: AlertRule, *values: float | None) -> tuple[list[str], list[Message]]:
    """Statuses and messages of evaluations a minute apart."""
    state, statuses, messages = new(NOW), [], []
    for number, value in enumerate(values):
        evidence = {"figure": value}
        state, message = step(
            rule, state, AT + number * MINUTE, value=value, evidence=evidence
        )
        statuses.append(state.status.value)
        messages += [] if message is None else [message]
    return statuses, messages


class TestState:
    def test_it_is_told_once_when_it_fires_and_once_when_it_is_over(self) -> None:
        statuses, messages = walk(a_rule(), 5, 11, 12, 13, 10, 9, None)

        assert statuses == ["inactive", *["firing"] * 3, *["inactive"] * 3]
        assert [one.status for one in messages] == ["firing", "resolved"]
        assert messages[0].fired == messages[1].fired

    def test_it_must_last(self) -> None:
        statuses, messages = walk(a_rule(**{"for": "2m"}), 11, 5, 11, 11, 11, 11)

        assert statuses == [
            *("pending", "inactive", "pending", "pending", "firing", "firing")
        ]
        assert [one.fired.starts_at for one in messages] == [AT + 4 * MINUTE]

    def test_below_fires_below(self) -> None:
        assert walk(a_rule(operator="below"), 11, 9)[0] == ["inactive", "firing"]

    def test_an_anomaly_below_is_a_negative_score(self) -> None:
        rule = a_rule(metric="anomaly", window="1h", operator="below", threshold=4)

        assert walk(rule, -3, 5, -5)[0] == ["inactive", "inactive", "firing"]

    def test_the_end_is_told_with_the_labels_of_the_beginning(self) -> None:
        state, _ = step(a_rule(), new(NOW), AT, value=11, evidence={})
        changed = a_rule(labels={"team": "x"}, webhook="https://other.example.com/")

        _, message = step(changed, state, AT + MINUTE, value=0, evidence={})

        assert message is not None
        assert message.fired == state.fired

    @pytest.mark.parametrize(
        "changes",
        [
            {"labels": {"team": "x"}},
            {"where": {"service": "openai"}},
            {"webhook": "https://other.example.com/"},
        ],
    )
    def test_a_rule_of_another_alert_ends_the_one_that_fires(
        self, changes: dict[str, Any]
    ) -> None:
        first, told = step(a_rule(), new(NOW), AT, value=11, evidence={})
        changed = a_rule(**changes)

        after, over = step(changed, first, AT + MINUTE, value=11, evidence={})
        again, begun = step(changed, after, AT + 2 * MINUTE, value=11, evidence={})

        assert told is not None
        assert over is not None
        assert begun is not None
        assert (over.status, over.fired) == ("resolved", told.fired)
        assert (begun.status, begun.fired) == ("firing", again.fired)
        assert begun.fired.webhook == changed.webhook
        assert begun.fired.labels == changed.all_labels()

    def test_a_message_is_as_alertmanager_sends_it(self) -> None:
        rule = a_rule(labels={"severity": "page"}, where={"service": "openai"})

        _, (firing, over) = walk(rule, 11, 0)

        labels = {
            "alertname": "r",
            "metric": "volume",
            "service": "openai",
            "severity": "page",
        }
        (alert,) = firing.body["alerts"]
        assert firing.body["version"] == "4"
        assert firing.body["status"] == alert["status"] == "firing"
        assert firing.body["commonLabels"] == alert["labels"] == labels
        assert alert["endsAt"] == "0001-01-01T00:00:00Z"
        assert alert["annotations"]["summary"] == (
            "volume is 11, above 10, over 5m (service=openai)"
        )
        (ended,) = over.body["alerts"]
        assert ended["status"] == "resolved"
        assert ended["fingerprint"] == alert["fingerprint"]
        assert datetime.fromisoformat(ended["endsAt"]) == AT + MINUTE
        assert all(isinstance(one, str) for one in alert["annotations"].values())

    def test_a_state_survives_storing(self) -> None:
        state, _ = step(a_rule(), new(NOW), AT, value=0.1 + 0.2, evidence={"a": [1.5]})
        failed = replace(state, error="no answer")

        assert state.status is Status.INACTIVE
        for one in (state, failed, AlertState(since=AT)):
            assert from_document(to_document(one)) == one


class TestPolicy:
    @pytest.mark.parametrize(
        "address",
        [
            *("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254"),
            *("0.0.0.0", "100.64.0.1", "224.0.0.1", "255.255.255.255"),  # noqa: S104
            *("::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1"),
            *("2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1"),
            *("::7f00:1", "::ffff:0:7f00:1", "fec0::1"),
        ],
    )
    def test_an_address_that_is_not_public_is_refused(self, address: str) -> None:
        with pytest.raises(Forbidden, match="no public address"):
            check("https", address, [])

    def test_public_addresses_want_https(self) -> None:
        for address in ("93.184.216.34", "2606:2800:220:1::1"):
            assert str(check("https", address, [])) == address
        with pytest.raises(Forbidden, match="give https"):
            check("http", "93.184.216.34", [])

    def test_listed_networks_may_be_told_over_http(self) -> None:
        networks = [ip_network("10.1.0.0/16")]

        assert str(check("http", "::ffff:10.1.2.3", networks)) == "10.1.2.3"
        with pytest.raises(Forbidden):
            check("http", "10.2.0.1", networks)

    @pytest.mark.parametrize(
        "url",
        [
            *("", "alerts.example.com", "file:///etc/passwd", "https://", "http:///x"),
            *("https://a b/", "https://a/#x", "https://u@a/", "https://a:99999/"),
            *("https://a/\r\nx: y", "https://[::1/", "https://ä.example/"),
        ],
    )
    def test_what_is_no_webhook_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match="give a"):
            target(url)
