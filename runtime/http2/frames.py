"""HTTP/2 frames (RFC 9113, sections 4 to 7): names, and bytes to send."""

from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_SIZE: Final = 9
#: The protocol's default for both sides; Envoy and grpcio send no larger frames.
MAX_FRAME: Final = 16_384
MAX_WINDOW: Final = 2**31 - 1
DEFAULT_WINDOW: Final = 65_535

# Kinds. Plain numbers: they are compared for every frame.
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

# Flags.
ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITISED: Final = 0x20

# Errors.
NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
FLOW_CONTROL_ERROR: Final = 3
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
ENHANCE_YOUR_CALM: Final = 11

# Settings.
HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

#: Length (high, low), kind, flags and stream of a frame at an offset.
unpack_head = Struct(">HBBBL").unpack_from
_pack_head = Struct(">HBBBL").pack
_number = Struct(">L")
_setting = Struct(">HL")


class ConnectionFault(Exception):
    """The peer broke the protocol so that the connection must end (section 5.4.1)."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


class StreamFault(Exception):
    """The peer broke the protocol within one stream (section 5.4.2)."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return _pack_head(size >> 8, size & 0xFF, kind, flags, stream_id) + payload


def settings_frame(values: dict[int, int]) -> bytes:
    payload = b"".join(_setting.pack(name, value) for name, value in values.items())
    return frame(SETTINGS, 0, 0, payload)


def rst_stream(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, _number.pack(code))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, _number.pack(increment))


def goaway(last_id: int, code: int, message: str = "") -> bytes:
    payload = _number.pack(last_id) + _number.pack(code) + message.encode()
    return frame(GOAWAY, 0, 0, payload)


def read_number(payload: bytes) -> int:
    """The 32 bits of RST_STREAM and WINDOW_UPDATE.

    Raises:
        ConnectionFault: there are more or fewer.
    """
    if len(payload) != _number.size:
        raise ConnectionFault(FRAME_SIZE_ERROR, "bad frame size")
    number: int = _number.unpack(payload)[0]
    return number


def read_settings(payload: bytes) -> dict[int, int]:
    """The last value of each; only the net effect of a frame counts (section 6.5.3).

    Raises:
        ConnectionFault: a value that the protocol forbids.
    """
    if len(payload) % _setting.size:
        raise ConnectionFault(FRAME_SIZE_ERROR, "bad SETTINGS size")
    values: dict[int, int] = {}
    for name, value in _setting.iter_unpack(payload):
        if name == ENABLE_PUSH and value > 1:
            raise ConnectionFault(PROTOCOL_ERROR, "bad ENABLE_PUSH")
        if name == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "bad INITIAL_WINDOW_SIZE")
        if name == MAX_FRAME_SIZE and not MAX_FRAME <= value < 2**24:
            raise ConnectionFault(PROTOCOL_ERROR, "bad MAX_FRAME_SIZE")
        values[name] = value
    return values


def content(flags: int, payload: bytes) -> bytes:
    """A DATA or HEADERS frame without its padding and priority.

    Raises:
        ConnectionFault: more padding than frame.
    """
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ConnectionFault(FRAME_SIZE_ERROR, "no room for the padding's length")
        start, end = 1, end - payload[0]
    if flags & PRIORITISED:
        start += 5
    if start > end:
        raise ConnectionFault(PROTOCOL_ERROR, "more padding than frame")
    return payload[start:end]
