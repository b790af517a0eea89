"""Reading OTLP by its bytes gives what protobuf itself would give."""

from typing import Any

import pytest

from usage_sink import otlp

LENGTHS = (0, 1, 2, 120, 123, 124, 125, 126, 127, 128, 129, 200, 16_383, 16_384, 70_000)


def by_protobuf(payload: bytes) -> list[tuple[str, dict[str, str]]]:
    request: Any = otlp.ExportRequest.FromString(payload)
    return [
        (
            {kv.key: kv.value.string_value for kv in logs.resource.attributes}.get(
                "node_name", ""
            ),
            {kv.key: kv.value.string_value for kv in record.attributes},
        )
        for logs in request.resource_logs
        for scope in logs.scope_logs
        for record in scope.log_records
    ]


def a_request(*records: dict[str, str]) -> Any:
    request: Any = otlp.ExportRequest()
    logs = request.resource_logs.add()
    logs.resource.attributes.add(key="node_name").value.string_value = "node-1"
    scope = logs.scope_logs.add()
    for attributes in records:
        record = scope.log_records.add()
        for key, value in attributes.items():
            record.attributes.add(key=key).value.string_value = value
    return request


@pytest.mark.parametrize("length", LENGTHS)
def test_texts_of_any_length_are_read(length: int) -> None:
    payload = a_request(
        {"short": "x" * length, "k" * (length + 1): "v", "text": "é" * length}
    ).SerializeToString()
    decoder = otlp.Decoder()

    first = list(decoder.entries(payload))
    again = list(decoder.entries(payload))

    assert first == again == by_protobuf(payload)


def test_other_values_and_further_fields_are_read_as_protobuf_does() -> None:
    request = a_request({"text": "x"})
    attributes = request.resource_logs[0].scope_logs[0].log_records[0].attributes
    attributes.add(key="no value")
    attributes.add(key="empty").value.SetInParent()
    attributes.add().value.string_value = "no key"
    number = attributes.add(key="number")
    number.value.MergeFromString(b"\x18\x07")  # int_value: 7
    twice = attributes.add(key="twice")
    twice.value.MergeFromString(b"\x0a\x01a\x12\x01b")
    attributes.add(key="known").MergeFromString(b"\x1a\x01x")
    payload = request.SerializeToString()

    assert list(otlp.Decoder().entries(payload)) == by_protobuf(payload)


def test_the_value_before_the_key_is_read_too() -> None:
    value_first = b"\x12\x03\x0a\x01v\x0a\x01k"
    record = b"\x32" + bytes([len(value_first)]) + value_first
    scope = b"\x12" + bytes([len(record)]) + record
    logs = b"\x12" + bytes([len(scope)]) + scope
    payload = b"\x0a" + bytes([len(logs)]) + logs

    assert list(otlp.Decoder().entries(payload)) == [("", {"k": "v"})]


def test_what_is_remembered_is_bounded() -> None:
    decoder = otlp.Decoder()
    for number in range(20_000):
        payload = a_request({"details": f"text {number}"}).SerializeToString()
        assert list(decoder.entries(payload)) == [
            ("node-1", {"details": f"text {number}"})
        ]
    assert len(decoder._pairs) <= 8192


def test_fields_that_are_not_declared_are_passed_over() -> None:
    """A newer Envoy may send more; field 15 stands for what we do not know."""
    payload = a_request({"k": "v"}).SerializeToString()

    assert list(otlp.Decoder().entries(payload + b"\x7a\x03abc")) == [
        ("node-1", {"k": "v"})
    ]
