"""An HTTP/2 client that says exactly what a test tells it to, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from hpack import Decoder, Encoder

from runtime.http2 import frames
from runtime.settings import Address

DEADLINE_S = 5.0
SHOUT = "/test.Calls/Shout"

Headers = list[tuple[str, str]]


def request_headers(path: str = SHOUT, **more: str) -> Headers:
    """As a gRPC client sends them; names with `_` for `-`."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "test"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *((name.replace("_", "-"), value) for name, value in more.items()),
    ]


def message(text: bytes, flag: int = 0) -> bytes:
    return bytes((flag,)) + len(text).to_bytes(4) + text


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream_id: int
    payload: bytes


@dataclass
class Answer:
    """What one stream has brought."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reset: int | None = None
    is_whole: bool = False

    @property
    def is_over(self) -> bool:
        return self.is_whole or self.reset is not None

    @property
    def status(self) -> int | None:
        return (
            int(self.headers["grpc-status"]) if "grpc-status" in self.headers else None
        )

    @property
    def text(self) -> bytes:
        assert self.body == message(self.body[5:])
        return self.body[5:]


@dataclass
class Peer:
    """One connection; answers no SETTINGS and no PING by itself."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    encoder: Encoder = field(default_factory=Encoder)
    decoder: Decoder = field(default_factory=Decoder)
    seen: list[Frame] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    def greet(self, settings: dict[int, int] | None = None) -> None:
        self.send(frames.PREFACE, frames.settings_frame(settings or {}))

    def head(
        self, stream_id: int, headers: Headers | None = None, *, is_last: bool = False
    ) -> bytes:
        block = self.encoder.encode(headers or request_headers())
        flags = frames.END_HEADERS | (frames.END_STREAM if is_last else 0)
        return frames.frame(frames.HEADERS, flags, stream_id, block)

    def data(self, stream_id: int, data: bytes, *, is_last: bool = True) -> bytes:
        return frames.frame(frames.DATA, int(is_last), stream_id, data)

    def call(self, stream_id: int, text: bytes, headers: Headers | None = None) -> None:
        self.send(self.head(stream_id, headers), self.data(stream_id, message(text)))

    async def frame(self) -> Frame | None:
        """The next one; None: the connection is at its end."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                head = await self.reader.readexactly(frames.HEAD_SIZE)
                high, low, kind, flags, stream_id = frames.unpack_head(head)
                payload = await self.reader.readexactly(high << 8 | low)
            except (asyncio.IncompleteReadError, ConnectionError):
                self.writer.close()
                return None
        one = Frame(kind, flags, stream_id, payload)
        self.seen.append(one)
        self._note(one)
        return one

    def _note(self, one: Frame) -> None:
        answer = self.answers.setdefault(one.stream_id, Answer())
        if one.kind == frames.HEADERS:
            fields = self.decoder.decode(one.payload)
            answer.headers |= {str(name): str(value) for name, value in fields}
        if one.kind == frames.DATA:
            answer.body += one.payload
        if one.kind == frames.RST_STREAM:
            answer.reset = int.from_bytes(one.payload)
        if one.kind in (frames.DATA, frames.HEADERS) and one.flags & frames.END_STREAM:
            answer.is_whole = True

    async def until(self, kind: int, flags: int = 0) -> Frame:
        """The next frame of this kind, with these flags at least."""
        while (one := await self.frame()) is not None:
            if one.kind == kind and one.flags & flags == flags:
                return one
        raise AssertionError(f"the connection ended without {kind}")

    async def answer(self, stream_id: int) -> Answer:
        """Everything of a stream until its end."""
        while stream_id not in self.answers or not self.answers[stream_id].is_over:
            assert await self.frame() is not None, "the connection ended before"
        return self.answers[stream_id]

    async def ask(self, stream_id: int, text: bytes = b"hello") -> bytes:
        """A call that must succeed."""
        self.call(stream_id, text)
        answer = await self.answer(stream_id)
        assert answer.status == 0, answer
        return answer.text

    async def end(self) -> int | None:
        """Read to the end of the connection: GOAWAY's code, None without one."""
        code = None
        while (one := await self.frame()) is not None:
            if one.kind == frames.GOAWAY:
                code = int.from_bytes(one.payload[4:8])
        return code


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[Peer]:
    """A peer that has said nothing yet."""
    peer = Peer(*await asyncio.open_connection(address.host, address.port))
    try:
        yield peer
    finally:
        peer.writer.transport.abort()
        with suppress(ConnectionError):
            await peer.writer.wait_closed()


@asynccontextmanager
async def greeted(
    address: Address, settings: dict[int, int] | None = None
) -> AsyncIterator[Peer]:
    """A peer that has sent its preface and settings."""
    async with connected(address) as peer:
        peer.greet(settings)
        yield peer
