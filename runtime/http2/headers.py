"""Header blocks: whom a call is for, and what every answer begins and ends with.

Decoding HPACK in Python costs more than all other work on a call. But Envoy sends
the same block for every call once its values are in the dynamic table, and decoding it
again gives the same as long as that table has not changed. So heads are kept by block,
and forgotten whenever a block changes the table (RFC 7541, section 2.2): by an
insertion, or by a size update, which may also stand before an indexed field.
"""

import re
from base64 import b64decode
from binascii import Error as BadBase64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from hpack import Decoder, HPACKError, OversizedHeaderListError

from runtime.http2 import frames
from runtime.http2.frames import ConnectionFault
from runtime.http2.limits import Limits
from runtime.rpc import Method, RpcStatus

_KEPT_HEADS: Final = 256
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])", re.ASCII)
_UNIT_S: Final = {
    b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9,
}  # fmt: skip
_FOREVER: Final = b"99999999H"
_CONTENT_TYPE = re.compile(rb"application/grpc(\+proto)?\s*(;.*)?", re.DOTALL)
#: RFC 9113, section 8.2.2.
_CONNECTION_FIELDS: Final = frozenset(
    (
        b"connection",
        b"proxy-connection",
        b"keep-alive",
        b"transfer-encoding",
        b"upgrade",
    )
)
_PSEUDO: Final = frozenset((b":method", b":path", b":scheme", b":authority"))
_REQUIRED: Final = frozenset((b":method", b":path", b":scheme"))
_NAME = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call is answered without a handler: a header block, or a reset."""

    block: bytes = b""
    reset: int = frames.NO_ERROR


@dataclass(frozen=True, slots=True)
class Head:
    """A request's headers, understood."""

    fields: tuple[tuple[bytes, bytes], ...] = ()
    method: Method | None = None
    timeout_s: float | None = None
    refusal: Refusal | None = None

    def metadata(self) -> dict[str, str | bytes]:
        """What the caller says beside the message; of a name that came twice the last.

        Names that end in `-bin` have bytes; undecodable ones are left out.
        """
        found: dict[str, str | bytes] = {}
        for raw, value in self.fields:
            name = raw.decode("ascii")
            if name.startswith((":", "grpc-")) or name in ("te", "content-type"):
                continue
            if not name.endswith("-bin"):
                found[name] = value.decode("latin-1")
                continue
            try:
                found[name] = b64decode(value + b"=" * (-len(value) % 4), validate=True)
            except BadBase64:
                continue
        return found


class HeaderReader:
    """Decodes the header blocks of one connection."""

    def __init__(self, methods: Mapping[bytes, Method], limits: Limits) -> None:
        self._methods = methods
        self._header_list = limits.header_list
        self._decoder = Decoder(max_header_list_size=limits.header_block)
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """What a block says.

        Raises:
            ConnectionFault: it can't be decoded; nothing after it could.
        """
        head = self._known.get(block)
        if head is not None:
            return head
        entries = self._decoder.header_table.dynamic_entries
        size, newest = len(entries), entries[0] if entries else None
        try:
            fields = tuple(
                (bytes(name), bytes(value))
                for name, value in self._decoder.decode(block, raw=True)
            )
        except OversizedHeaderListError as error:
            raise ConnectionFault(
                frames.ENHANCE_YOUR_CALM, "headers too large"
            ) from error
        except HPACKError as error:
            raise ConnectionFault(
                frames.COMPRESSION_ERROR, "bad header block"
            ) from error
        head = self._understand(fields)
        is_update = block[:1] and block[0] & 0xE0 == 0x20  # noqa: PLR2004 - RFC 7541, 6.3
        if is_update or size != len(entries) or (entries and entries[0] is not newest):
            self._known.clear()
        elif len(self._known) < _KEPT_HEADS:
            self._known[block] = head
        return head

    def _understand(self, fields: tuple[tuple[bytes, bytes], ...]) -> Head:
        if not _is_well_formed(fields):
            return Head(refusal=Refusal(reset=frames.PROTOCOL_ERROR))
        if (
            sum(len(name) + len(value) + 32 for name, value in fields)
            > self._header_list
        ):
            return Head(refusal=Refusal(_too_large))
        return self._route(fields, dict(fields))

    def _route(
        self, fields: tuple[tuple[bytes, bytes], ...], values: dict[bytes, bytes]
    ) -> Head:
        method = self._methods.get(values[b":path"])
        timeout = _TIMEOUT.fullmatch(values.get(b"grpc-timeout", _FOREVER))
        if values[b":method"] != b"POST":
            return Head(refusal=Refusal(_http_error(405)))
        if not _CONTENT_TYPE.fullmatch(values.get(b"content-type", b"")):
            return Head(refusal=Refusal(_http_error(415)))
        if method is None:
            return Head(refusal=Refusal(_unknown_method))
        if timeout is None:
            return Head(refusal=Refusal(_bad_timeout))
        has_timeout = b"grpc-timeout" in values
        timeout_s = int(timeout[1]) * _UNIT_S[timeout[2]] if has_timeout else None
        return Head(fields, method, timeout_s)


def _is_well_formed(fields: tuple[tuple[bytes, bytes], ...]) -> bool:
    """RFC 9113, sections 8.2 and 8.3: what must not be guessed at."""
    pseudo: set[bytes] = set()
    are_regular = False
    for name, value in fields:
        if (
            not _NAME.fullmatch(name)
            or b"\0" in value
            or b"\n" in value
            or b"\r" in value
        ):
            return False
        if name.startswith(b":"):
            if are_regular or name in pseudo or name not in _PSEUDO:
                return False
            pseudo.add(name)
            continue
        are_regular = True
        if name in _CONNECTION_FIELDS or (name == b"te" and value != b"trailers"):
            return False
    return pseudo >= _REQUIRED


def _literal(name: bytes, value: bytes) -> bytes:
    """A field that changes no table; both shorter than 127 bytes (section 6.2.2)."""
    return bytes((0, len(name))) + name + _string(value)


def _string(value: bytes) -> bytes:
    """A length in 7 bits and more, and plain octets (RFC 7541, sections 5.1, 5.2)."""
    size = len(value)
    if size < 0x7F:  # noqa: PLR2004 - all that 7 bits hold
        return bytes((size,)) + value
    rest, out = size - 0x7F, bytearray((0x7F,))
    while rest >= 0x80:  # noqa: PLR2004 - 7 bits a byte
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out) + value


#: Our encoder has no dynamic table; a peer that shrinks its own wants to be told so
#: (RFC 7541, section 4.2).
NO_TABLE: Final = b"\x20"
#: `:status: 200` is entry 8 of the static table, `content-type` the name of 31.
ANSWER_BLOCK: Final = b"\x88" + b"\x0f\x10" + _string(b"application/grpc")
OK_TRAILERS: Final = _literal(b"grpc-status", b"0")
#: grpc-message is advice to people; a peer's limit for headers is 8 KiB or more.
_MESSAGE_BYTES: Final = 1024


def error_trailers(status: RpcStatus, message: str) -> bytes:
    """The fields that end a call; the message percent-encoded (gRPC over HTTP/2)."""
    encoded = quote(message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()
    return _literal(b"grpc-status", b"%d" % status.value) + _literal(
        b"grpc-message", encoded[:_MESSAGE_BYTES]
    )


def _http_error(status: int) -> bytes:
    return b"\x08" + _string(b"%d" % status)


_unknown_method = ANSWER_BLOCK + error_trailers(
    RpcStatus.UNIMPLEMENTED, "unknown method"
)
_bad_timeout = ANSWER_BLOCK + error_trailers(
    RpcStatus.INTERNAL, "malformed grpc-timeout"
)
_too_large = ANSWER_BLOCK + error_trailers(
    RpcStatus.RESOURCE_EXHAUSTED, "headers too large"
)
