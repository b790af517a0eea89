"""What Envoys send, converted with the prices in force."""

import json
from pathlib import Path
from typing import Any

import pytest
from envoy.service.accesslog.v3 import als_pb2

from runtime.clock import FakeClock
from usage_sink import otlp
from usage_sink.errors import PricesPending
from usage_sink.events import NotARequest
from usage_sink.intake import Intake, Item
from usage_sink.pricing import PricesInForce
from usage_sink.records import Misfit, UsageRecord
from usage_sink.segments import Entry, Kind, Position

GOLDEN: dict[str, dict[str, str]] = json.loads(
    (Path(__file__).parent / "golden_entries.json").read_text()
)


def an_intake(*, wait_s: float = 0) -> Intake:
    return Intake(PricesInForce(FakeClock(), wait_s), region="eu", version="1.2.3")


def an_entry(payload: bytes, kind: Kind = Kind.OTLP) -> Entry:
    return Entry(kind, 0.0, payload, Position(1, len(payload)))


def an_export(*entries: dict[str, str], node: str = "node-1") -> bytes:
    request: Any = otlp.ExportRequest()
    logs = request.resource_logs.add()
    logs.resource.attributes.add(key="node_name").value.string_value = node
    scope = logs.scope_logs.add()
    for entry in entries:
        record = scope.log_records.add()
        for key, value in entry.items():
            record.attributes.add(key=key).value.string_value = value
    return bytes(request.SerializeToString())


def read(payload: bytes, kind: Kind = Kind.OTLP) -> list[Item]:
    return list(an_intake().read(an_entry(payload, kind)))


def test_every_entry_becomes_a_record_or_a_misfit_or_is_counted() -> None:
    items = read(an_export(*GOLDEN.values(), {"id": "17"}))

    kinds = [type(item) for item in items]
    assert kinds.count(NotARequest) == 1  # the garbage bytes
    assert kinds.count(UsageRecord) == len(GOLDEN) - 1
    assert [item.reason for item in items if isinstance(item, Misfit)] == [
        "id is not a UUID"
    ]


def test_both_transports_give_the_same_records() -> None:
    message = als_pb2.StreamAccessLogsMessage()
    message.identifier.node.id = "node-1"
    for entry in GOLDEN.values():
        logged = message.http_logs.log_entry.add()
        logged.common_properties.custom_tags.update(entry)

    streamed = read(message.SerializeToString(), Kind.ALS)

    assert streamed == read(an_export(*GOLDEN.values()))


@pytest.mark.parametrize(("sent", "kept"), [("n\x00ode-1", "node-1"), ("", "unknown")])
def test_a_record_says_which_envoy_and_which_sink(sent: str, kept: str) -> None:
    (record,) = read(an_export(GOLDEN["plain call"], node=sent))

    assert isinstance(record, UsageRecord)
    assert record.origin.node == kept
    assert (record.origin.region, record.origin.version) == ("eu", "1.2.3")


def test_an_ai_call_waits_for_prices() -> None:
    items = an_intake(wait_s=30).read(an_entry(an_export(GOLDEN["OpenAI JSON"])))

    with pytest.raises(PricesPending):
        next(items)


def test_bytes_that_are_no_payload_are_kept_as_evidence() -> None:
    (misfit,) = read(b"\xff\xff\xff")

    assert isinstance(misfit, Misfit)
    assert misfit.attributes["bytes"] == "3"
    assert misfit.attributes["begins"] == "ffffff"


def test_a_node_that_changes_for_ever_does_not_fill_the_memory() -> None:
    intake = an_intake()
    for number in range(1000):
        payload = an_export(GOLDEN["plain call"], node=f"node-{number}")
        (record,) = intake.read(an_entry(payload))
        assert isinstance(record, UsageRecord)
        assert record.origin.node == f"node-{number}"
    assert len(intake._origins) <= 128
