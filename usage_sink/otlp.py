"""The few OTLP messages that Envoy's access logger sends, declared here by number.

Two installed packages (`opentelemetry-proto` and `xds-protos`) write the same
files `opentelemetry/proto/**/*_pb2.py`, in versions with different field names;
which one is on disk depends on the order of installation. The wire numbers never
change, so this module declares what is read, in a descriptor pool of its own.
Fields not declared are carried as unknown fields and cost nothing.
Source: opentelemetry/proto/collector/logs/v1/logs_service.proto.

A record has about forty attributes, and most of them are the same bytes in every
record. So the attributes are declared as bytes, and what those bytes mean is
remembered: that halves the cost of a record.
"""

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

EXPORT_PATH: Final = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"

_PACKAGE: Final = "hubgate.otlp"
_STRING: Final = "string"
_BYTES: Final = "bytes"

#: message -> (field, number, type, repeated)
_MESSAGES: Final[dict[str, tuple[tuple[str, int, str, bool], ...]]] = {
    "AnyValue": (("string_value", 1, _STRING, False),),
    "KeyValue": (("key", 1, _STRING, False), ("value", 2, "AnyValue", False)),
    "LogRecord": (("attributes", 6, "KeyValue", True),),
    "ScopeLogs": (("log_records", 2, "LogRecord", True),),
    "Resource": (("attributes", 1, "KeyValue", True),),
    "ResourceLogs": (
        ("resource", 1, "Resource", False),
        ("scope_logs", 2, "ScopeLogs", True),
    ),
    "ExportLogsServiceRequest": (("resource_logs", 1, "ResourceLogs", True),),
    "ExportLogsServiceResponse": (),
    # The same on the wire, for reading.
    "RawRecord": (("attributes", 6, _BYTES, True),),
    "RawScope": (("log_records", 2, "RawRecord", True),),
    "RawLogs": (
        ("resource", 1, "Resource", False),
        ("scope_logs", 2, "RawScope", True),
    ),
    "RawRequest": (("resource_logs", 1, "RawLogs", True),),
}
_SCALARS: Final = {
    _STRING: FieldDescriptorProto.TYPE_STRING,
    _BYTES: FieldDescriptorProto.TYPE_BYTES,
}

#: Attributes whose values hardly ever come twice.
_UNIQUE: Final = frozenset(
    (
        *("id", "start", "user_id", "session_id", "conversation_id", "path", "sse"),
        *("duration_ms", "upstream_ms", "bytes_received", "bytes_sent"),
    )
)
_REMEMBERED: Final = 8192
_REMEMBERED_BYTES: Final = 128
_KEY_TAG: Final = 0x0A  # KeyValue.key, and AnyValue.string_value
_SHORT: Final = 0x80  # lengths below it take one byte
#: By the length of a text: the tag and length of KeyValue.value, then of the
#: AnyValue.string_value in it.
_VALUE_HEADS: Final = [
    bytes((0x12, length + 2, _KEY_TAG, length)) for length in range(_SHORT - 2)
]
_UNIQUE_KEYS: Final = {key.encode(): key for key in _UNIQUE}


def _pool() -> DescriptorPool:
    file = FileDescriptorProto(name="hubgate/otlp.proto", package=_PACKAGE)
    file.syntax = "proto3"
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            is_scalar = kind in _SCALARS
            message.field.add(
                name=field,
                number=number,
                label=(
                    FieldDescriptorProto.LABEL_REPEATED
                    if repeated
                    else FieldDescriptorProto.LABEL_OPTIONAL
                ),
                type=_SCALARS.get(kind, FieldDescriptorProto.TYPE_MESSAGE),
                type_name=None if is_scalar else f".{_PACKAGE}.{kind}",
            )
    pool = DescriptorPool()
    pool.Add(file)
    return pool


_POOL: Final = _pool()


def _message(name: str) -> type[Message]:
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


ExportRequest: Final = _message("ExportLogsServiceRequest")
ExportResponse: Final = _message("ExportLogsServiceResponse")
_KeyValue: Final = _message("KeyValue")
_RawRequest: Final = _message("RawRequest")


class _Pairs(dict[bytes, tuple[str, str]]):
    """A KeyValue's bytes -> (key, text); remembers those that come again."""

    def __missing__(self, raw: bytes) -> tuple[str, str]:
        pair = _short_pair(raw) or _any_pair(raw)
        if pair[0] not in _UNIQUE and len(raw) <= _REMEMBERED_BYTES:
            if len(self) >= _REMEMBERED:
                self.clear()  # texts come from clients: not bounded by us
            self[raw] = pair
        return pair


class Decoder:
    """Reads Export requests; one per thread, because it remembers."""

    def __init__(self) -> None:
        self._pairs = _Pairs()

    def entries(self, payload: bytes) -> Iterator[tuple[str, dict[str, str]]]:
        """(node name, attributes) of every log record in an Export request.

        Raises:
            DecodeError: the bytes are no such request.
        """
        request: Any = _RawRequest.FromString(payload)
        pair = self._pairs.__getitem__
        for logs in request.resource_logs:
            resource = {
                kv.key: kv.value.string_value for kv in logs.resource.attributes
            }
            node = resource.get("node_name", "")
            for scope in logs.scope_logs:
                for record in scope.log_records:
                    yield node, dict(map(pair, record.attributes))


def _short_pair(raw: bytes) -> tuple[str, str] | None:
    """Read a pair that takes less than 128 bytes; None: it has another form."""
    size = len(raw)
    if not 1 < size < _SHORT or raw[0] != _KEY_TAG:
        return None
    end = raw[1] + 2
    value = end + 4
    if value > size or raw[end:value] != _VALUE_HEADS[size - value]:
        return None
    key, text = raw[2:end], raw[value:].decode(errors="replace")
    return _UNIQUE_KEYS.get(key) or key.decode(errors="replace"), text


def _any_pair(raw: bytes) -> tuple[str, str]:
    pair: Any = _KeyValue.FromString(raw)
    return pair.key, pair.value.string_value
