"""The few OTLP messages that Envoy's access logger sends, declared here by number.

Two installed packages (`opentelemetry-proto` and `xds-protos`) write the same
files `opentelemetry/proto/**/*_pb2.py`, in versions with different field names;
which one is on disk depends on the order of installation. The wire numbers never
change, so this module declares what is read, in a descriptor pool of its own.
Fields not declared are carried as unknown fields and cost nothing.
Source: opentelemetry/proto/collector/logs/v1/logs_service.proto.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from runtime.contracts.access_log import LOG_FIELDS, LOG_SEPARATOR

EXPORT_PATH: Final = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"

_PACKAGE: Final = "hubgate.otlp"
_STRING: Final = FieldDescriptorProto.TYPE_STRING

#: message -> (field, number, type name or None for a string, repeated)
_MESSAGES: Final[dict[str, tuple[tuple[str, int, str | None, bool], ...]]] = {
    "AnyValue": (("string_value", 1, None, False),),
    "KeyValue": (("key", 1, None, False), ("value", 2, "AnyValue", False)),
    "LogRecord": (
        ("body", 5, "AnyValue", False),
        ("attributes", 6, "KeyValue", True),
    ),
    "ScopeLogs": (("log_records", 2, "LogRecord", True),),
    "Resource": (("attributes", 1, "KeyValue", True),),
    "ResourceLogs": (
        ("resource", 1, "Resource", False),
        ("scope_logs", 2, "ScopeLogs", True),
    ),
    "ExportLogsServiceRequest": (("resource_logs", 1, "ResourceLogs", True),),
    "ExportLogsServiceResponse": (),
}


def _pool() -> DescriptorPool:
    file = FileDescriptorProto(name="hubgate/otlp.proto", package=_PACKAGE)
    file.syntax = "proto3"
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            message.field.add(
                name=field,
                number=number,
                label=(
                    FieldDescriptorProto.LABEL_REPEATED
                    if repeated
                    else FieldDescriptorProto.LABEL_OPTIONAL
                ),
                type=_STRING if kind is None else FieldDescriptorProto.TYPE_MESSAGE,
                type_name=None if kind is None else f".{_PACKAGE}.{kind}",
            )
    pool = DescriptorPool()
    pool.Add(file)
    return pool


_POOL: Final = _pool()


def _message(name: str) -> type[Message]:
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


ExportRequest: Final = _message("ExportLogsServiceRequest")
ExportResponse: Final = _message("ExportLogsServiceResponse")


def batches(payload: bytes) -> Iterator[tuple[str, str | None, Sequence[Any]]]:
    """Node, the text of `LOG_FIELDS` and log records, of each that is there.

    Raises:
        DecodeError: the bytes are no such request.
    """
    request: Any = ExportRequest.FromString(payload)
    for logs in request.resource_logs:
        resource = {kv.key: kv.value.string_value for kv in logs.resource.attributes}
        node, fields = resource.get("node_name", ""), resource.get(LOG_FIELDS)
        for scope in logs.scope_logs:
            yield node, fields, scope.log_records


def entries(payload: bytes) -> Iterator[tuple[str, dict[str, str]]]:
    """(node name, attributes) of every log record in an Export request.

    Raises:
        DecodeError: the bytes are no such request.
    """
    for node, fields, records in batches(payload):
        names = names_of(fields)
        for record in records:
            yield node, attributes_of(names, record)


def names_of(fields: str | None) -> list[str]:
    """Of the texts that a body holds."""
    return [] if fields is None else fields.split(",")


def attributes_of(names: list[str], record: Any) -> dict[str, str]:
    """Its own, and those that its body holds, one text for each name.

    A body that does not fit its names is handed on as what can't be a request.
    """
    attributes = of_body(names, record.body.string_value) if names else {}
    if own := record.attributes:  # asking costs less than a loop of none
        attributes |= {kv.key: kv.value.string_value for kv in own}
    return attributes


def of_body(names: list[str], body: str) -> dict[str, str]:
    texts = body.split(LOG_SEPARATOR)
    if len(texts) == len(names):
        return dict(zip(names, texts, strict=False))  # as many, as just seen
    return {"id": f"{len(texts)} texts for {len(names)} names", "body": body}
