"""What Envoys send, converted with the prices in force."""

import json
from pathlib import Path

import pytest

from runtime.clock import FakeClock
from runtime.metrics import Metrics
from usage_sink import otlp
from usage_sink.errors import PricesPending
from usage_sink.pricing import PricesInForce
from usage_sink.service import Intake

GOLDEN: dict[str, dict[str, str]] = json.loads(
    (Path(__file__).parent / "golden_entries.json").read_text()
)


def an_intake(metrics: Metrics, *, wait_s: float = 0) -> Intake:
    prices = PricesInForce(FakeClock(), wait_s)
    return Intake(prices, metrics, region="eu", version="1.2.3")


def test_every_entry_becomes_a_record_or_a_misfit_or_is_counted() -> None:
    metrics = Metrics()
    entries = [("node-1", entry) for entry in GOLDEN.values()]

    converted = an_intake(metrics).convert([*entries, ("", {"id": "17"})])

    counted = metrics.value("hubgate_usage_records_total", result="unidentified")
    assert counted == 1  # the garbage bytes
    assert len(converted.records) == len(GOLDEN) - 1
    assert [misfit.reason for misfit in converted.misfits] == ["id is not a UUID"]


def test_a_record_says_which_envoy_and_which_sink() -> None:
    entries = [("n\x00ode-1", GOLDEN["plain call"]), ("", GOLDEN["no route"])]

    first, second = an_intake(Metrics()).convert(entries).records

    assert first.origin.node == "node-1"
    assert (first.origin.region, first.origin.version) == ("eu", "1.2.3")
    assert second.origin.node == "unknown"


def test_a_batch_with_an_ai_call_waits_as_a_whole_for_prices() -> None:
    intake = an_intake(Metrics(), wait_s=30)

    with pytest.raises(PricesPending):
        intake.convert(("n", GOLDEN[name]) for name in ("plain call", "OpenAI JSON"))


def test_fields_of_otlp_that_are_not_declared_are_passed_over() -> None:
    """A newer Envoy may send more; field 15 stands for what we do not know."""
    known = otlp.ExportRequest().SerializeToString()

    request = otlp.ExportRequest.FromString(known + b"\x7a\x03abc")

    assert list(otlp.entries(request)) == []
