"""The bytes of a spool segment: how records are written, and read back. Pure.

A record is a header and a payload. The header begins with a mark and ends with a
CRC-32 of itself, so that after damage the next good record can be found; the payload
has a CRC-32 of its own. A segment that was closed ends with an END record: without
it, what can't be read at the end is the torn write of a killed process and was never
acknowledged; with it, it is damage.
"""

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

#: mark, payload length, received (Unix seconds), kind, CRC of the payload
_FIELDS: Final = struct.Struct("<4sIdBI")
_CHECK: Final = struct.Struct("<I")
_MARK: Final = b"\xf5hgR"
HEADER_BYTES: Final = _FIELDS.size + _CHECK.size
_END: Final = 0


class Kind(IntEnum):
    """What a payload is. The numbers are on disk: never change one."""

    #: ExportLogsServiceRequest, as Envoy's OTLP access logger sent it.
    OTLP = 1
    #: StreamAccessLogsMessage with `identifier.node.id` filled in.
    ALS = 2
    #: Lines of JSON: access-log attributes and "node".
    LINES = 3
    #: hubgate.usage.v1.ReportUsageRequest.
    REPORT = 4
    #: Lines of JSON: admitted requests that no record came for.
    UNSETTLED = 5


class Position(NamedTuple):
    """A place in the spool; ordered as the records are."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One record: `received` is Unix seconds, `end` the place behind it."""

    kind: Kind
    received: float
    payload: bytes
    end: Position


@dataclass(frozen=True, slots=True)
class Scan:
    """What a block of `size` bytes holds.

    `consumed` bytes are done with. `damaged` of them were unreadable records in
    front of a readable one. `wanted` > 0: the next record has that many bytes, more
    than the block. `is_stuck`: what follows is no record, and none was found behind.
    """

    entries: list[Entry]
    size: int
    consumed: int
    damaged: int = 0
    wanted: int = 0
    is_stuck: bool = False
    has_end: bool = False


def header(kind: Kind, received: float, payload: bytes) -> bytes:
    return _header(kind, received, payload)


def end_record() -> bytes:
    return _header(_END, 0.0, b"")


def _header(kind: int, received: float, payload: bytes) -> bytes:
    fields = _FIELDS.pack(_MARK, len(payload), received, kind, zlib.crc32(payload))
    return fields + _CHECK.pack(zlib.crc32(fields))


def received_at(block: bytes) -> float | None:
    """When the record at the beginning of `block` was received; None: no record."""
    fields = _fields(block, 0)
    return None if fields is None or fields[1] == _END else fields[2]


def is_end(block: bytes) -> bool:
    """Whether the record at the beginning of `block` closes its segment."""
    fields = _fields(block, 0)
    return fields is not None and fields[1] == _END


def scan(block: bytes, start: Position) -> Scan:
    """Read the records in `block`, which lies at `start` of the spool."""
    entries: list[Entry] = []
    at = damaged = 0
    size = len(block)
    while at < size:
        if size - at < HEADER_BYTES:
            return Scan(entries, size, at, damaged, wanted=HEADER_BYTES)
        fields = _fields(block, at)
        if fields is not None:
            length, kind, received, check = fields
            end = at + HEADER_BYTES + length
            if end > size:
                return Scan(entries, size, at, damaged, wanted=end - at)
            payload = block[at + HEADER_BYTES : end]
            if zlib.crc32(payload) == check:
                if kind == _END:
                    return Scan(entries, size, end, damaged, has_end=True)
                place = Position(start.segment, start.offset + end)
                entries.append(Entry(Kind(kind), received, payload, place))
                at = end
                continue
        following = _next_record(block, at + 1)
        if following is None:
            return Scan(entries, size, at, damaged, is_stuck=True)
        damaged += following - at
        at = following
    return Scan(entries, size, at, damaged)


def _fields(block: bytes, at: int) -> tuple[int, int, float, int] | None:
    """Length, kind, received and CRC of a good header at `at`."""
    end = at + _FIELDS.size
    if len(block) - at < HEADER_BYTES:
        return None
    mark, length, received, kind, check = _FIELDS.unpack_from(block, at)
    (expected,) = _CHECK.unpack_from(block, end)
    if mark != _MARK or zlib.crc32(block[at:end]) != expected:
        return None
    if kind != _END and kind not in Kind._value2member_map_:
        return None  # of a newer version: passed over like damage, and kept aside
    return length, kind, received, check


def _next_record(block: bytes, at: int) -> int | None:
    while (at := block.find(_MARK, at)) >= 0:
        if _fields(block, at) is not None:
            return at
        at += 1
    return None
