"""Rows as PostgreSQL's COPY takes them in its binary format. Pure.

asyncpg can make them of tuples, but not of what many rows have in common (`plain`).
Source: https://www.postgresql.org/docs/18/sql-copy.html ("Binary Format"); a value is
what the receive function of its type reads.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from struct import Struct
from typing import Any, Final
from uuid import UUID

_BEGIN: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
#: Of one message to the server.
_ROWS_AT_ONCE: Final = 64

_COUNT: Final = Struct(">h")
_SIZE: Final = Struct(">i")
_INT2: Final = Struct(">ih")
_INT4: Final = Struct(">ii")
_INT8: Final = Struct(">iq")
#: Its length, and the version of the format.
_JSONB: Final = Struct(">iB")
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_DAY_MICROS: Final = 86_400_000_000

Encode = Callable[[Any], bytes]


def uuid(value: UUID) -> bytes:
    return b"\0\0\0\x10" + value.bytes


def timestamptz(value: datetime) -> bytes:
    return _INT8.pack(8, micros(value))


def micros(value: datetime) -> int:
    """Microseconds since 2000, as PostgreSQL counts."""
    since = value - _EPOCH
    return since.days * _DAY_MICROS + since.seconds * 1_000_000 + since.microseconds


def int2(value: int) -> bytes:
    return _INT2.pack(2, value)


def int4(value: int | None) -> bytes:
    return _NULL if value is None else _INT4.pack(4, value)


def int8(value: int) -> bytes:
    return _INT8.pack(8, value)


@lru_cache(maxsize=1024)
def text(value: str | None) -> bytes:
    """Most are the same in thousands of rows."""
    if value is None:
        return _NULL
    data = value.encode()
    return _SIZE.pack(len(data)) + data


def jsonb(value: str) -> bytes:
    data = value.encode()
    return _JSONB.pack(len(data) + 1, 1) + data


def count(columns: int) -> bytes:
    """What a row begins with."""
    return _COUNT.pack(columns)


def fields(encoders: Sequence[Encode], values: Iterable[Any]) -> bytes:
    """Values of a row, each by its encoder."""
    return b"".join(
        [encode(value) for encode, value in zip(encoders, values, strict=True)]
    )


def stream(rows: Iterator[bytes]) -> Iterator[bytes]:
    """A whole COPY, some rows at a time."""
    begin = _BEGIN
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        yield begin + b"".join(some)
        begin = b""
    yield begin + _END
