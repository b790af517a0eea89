"""Logs, metrics and health say what happened, and nothing secret."""

import io
import json
import logging

import pytest
import structlog
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from runtime import logs
from runtime.answers import error_body
from runtime.contracts import ErrorCode
from runtime.health import Health
from runtime.metrics import Metrics, undeclared
from runtime.settings import ServiceSettings


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    settings = ServiceSettings.from_environ(
        {"HUBGATE_NODE_ID": "n1", "HUBGATE_ENV": "production"}
    )
    logs.configure("authz", settings, stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_our_lines_and_a_librarys_are_json_alike(stream: io.StringIO) -> None:
    structlog.contextvars.bind_contextvars(request_id="r-1")
    logs.get_logger("authz.service").info("decision", verdict="deny")
    structlog.contextvars.clear_contextvars()
    logging.getLogger("uvicorn.error").warning("late %s", "bind")

    ours, theirs = lines(stream)
    assert ours["event"] == "decision"
    assert ours["request_id"] == "r-1"
    assert (ours["service"], ours["node"], ours["level"]) == ("authz", "n1", "info")
    assert theirs["event"] == "late bind"
    assert theirs["logger"] == "uvicorn.error"


def test_production_is_silent_below_info(stream: io.StringIO) -> None:
    logs.get_logger("x").debug("detail")

    assert lines(stream) == []


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({"HUBGATE_ENV": "test"}, "debug"),
        ({"HUBGATE_ENV": "production"}, "info"),
        ({"HUBGATE_ENV": "production", "HUBGATE_LOG_LEVEL": "error"}, "error"),
    ],
    ids=["test", "production", "asked for"],
)
def test_the_level_follows_the_environment(environ: dict[str, str], level: str) -> None:
    assert logs.level_for(ServiceSettings.from_environ(environ)) == level


def test_every_metric_name_is_declared_once() -> None:
    assert undeclared() == set()


def test_a_process_tells_nothing_of_what_others_count() -> None:
    metrics = Metrics("control")
    assert b"hubgate_xds_streams 0.0" in metrics.render()
    assert b"hubgate_usage_missing" not in metrics.render()

    metrics.set("hubgate_blacklist_tracking", 1)
    assert b"hubgate_blacklist_tracking 1.0" in metrics.render()


def test_metrics_count_and_render() -> None:
    metrics = Metrics()
    metrics.inc("hubgate_authz_decisions_total", verdict="deny", reason="expired")
    metrics.set("hubgate_config_revision", 7)
    metrics.observe("hubgate_config_publish_seconds", 0.2)

    text = metrics.render().decode()
    assert 'hubgate_authz_decisions_total{reason="expired",verdict="deny"} 1.0' in text
    assert "hubgate_config_revision 7.0" in text
    assert "hubgate_config_publish_seconds_count 1.0" in text
    assert metrics.value("hubgate_config_revision") == 7


def test_a_metric_of_another_kind_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="is not a Gauge"):
        Metrics().set("hubgate_authz_decisions_total", 1)


def test_labels_in_another_order_are_the_same_and_other_labels_a_mistake() -> None:
    metrics = Metrics()
    metrics.inc("hubgate_authz_decisions_total", verdict="deny", reason="expired")
    metrics.inc("hubgate_authz_decisions_total", 2, reason="expired", verdict="deny")

    assert metrics.render().count(b"hubgate_authz_decisions_total{") == 1
    found = metrics.value(
        "hubgate_authz_decisions_total", verdict="deny", reason="expired"
    )
    assert found == 3
    with pytest.raises(ValueError, match="has the labels"):
        metrics.inc("hubgate_authz_decisions_total", verdict="deny")


def test_a_histogram_tells_its_buckets_as_the_library_does() -> None:
    values = (0.0001, 0.0005, 0.3, 99.0)
    library = CollectorRegistry()
    reference = Histogram(
        *("hubgate_rpc_seconds", "", ("method",)),
        registry=library,
        buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
    )
    metrics = Metrics()
    for one in values:
        reference.labels("/x").observe(one)
        metrics.observe("hubgate_rpc_seconds", one, method="/x")

    def told(text: bytes) -> list[str]:
        lines = text.decode().splitlines()
        return [one for one in lines if one.startswith("hubgate_rpc_seconds_")]

    assert told(metrics.render()) == [
        one for one in told(generate_latest(library)) if "_created" not in one
    ]


async def test_health_names_the_component_that_is_down_without_its_url() -> None:
    async def fine() -> None:
        return None

    async def broken() -> None:
        raise ConnectionError("redis://:hunter2@host")

    health = Health()
    health.add("database", fine)
    health.add("redis", broken)
    report = await health.report()

    assert report.components == {"database": "ok", "redis": "ConnectionError"}
    assert not report.is_ready
    assert report.as_json()["status"] == "unavailable"


def test_an_error_body_is_the_contracts_json() -> None:
    body = error_body(ErrorCode.TOKEN_MISSING, "no token", "r-1")

    assert json.loads(body) == {
        "code": "TOKEN_MISSING",
        "message": "no token",
        "requestId": "r-1",
    }
