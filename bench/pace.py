"""Requests at a fixed rate, however late the answers: what one caller waits.

    python -m bench.pace --port N --tokens FILE [--rate 500] [--seconds 5]

An open loop: request n is due at n/rate and is sent then, on an idle connection or a
new one. Latency counts from the moment it was due, so time spent waiting behind slow
answers, or for this client itself, is in it. Prints one line of JSON.
"""

import argparse
import gc
import itertools
import json
import select
import socket
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

_OPEN_AT_START: Final = 32
#: More than that waiting: the gateway can't answer at this rate.
_IN_FLIGHT: Final = 512
_LATE_S: Final = 5.0
_CHUNK: Final = 65_536
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Paced:
    """Milliseconds from due to answered; `over`: it could not keep up."""

    sent: int
    errors: int
    over: bool
    p50_ms: float
    p99_ms: float


@dataclass(slots=True)
class Exchange:
    """One request under way."""

    due: float
    answer: bytes = b""

    @property
    def is_complete(self) -> bool:
        head, found, body = self.answer.partition(_END)
        if not found:
            return False
        fields = head.lower()
        if b"\r\ntransfer-encoding: chunked" in fields:
            return body.endswith(b"0\r\n\r\n")
        _, _, rest = fields.partition(b"\r\ncontent-length:")
        return len(body) >= int(rest.partition(b"\r\n")[0] or 0)

    @property
    def is_good(self) -> bool:
        return self.answer.startswith(b"HTTP/1.1 200")


class Client:
    """Connections to one port of loopback."""

    def __init__(self, port: int, requests: list[bytes]) -> None:
        self._address = ("127.0.0.1", port)
        self._requests = itertools.cycle(requests)
        self._idle: deque[socket.socket] = deque()
        self._busy: dict[socket.socket, Exchange] = {}
        self._latencies: list[float] = []
        self._errors = 0

    def run(self, rate: float, seconds: float) -> Paced:
        self._idle.extend(self._connect() for _ in range(_OPEN_AT_START))
        total, sent = int(rate * seconds), 0
        begin = perf_counter()
        end = begin + seconds + _LATE_S
        while sent < total or self._busy:
            now = perf_counter()
            if now > end or len(self._busy) > _IN_FLIGHT:
                break
            while sent < total and begin + sent / rate <= now:
                self._send(begin + sent / rate)
                sent += 1
            due = begin + sent / rate if sent < total else end
            self._receive(max(0.0, due - perf_counter()))
        over = bool(self._busy) or sent < total
        for connection in (*self._idle, *self._busy):
            connection.close()
        found = sorted(self._latencies) or [0.0]
        return Paced(
            sent, self._errors, over, percentile(found, 0.5), percentile(found, 0.99)
        )

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(self._address, timeout=_LATE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _send(self, due: float) -> None:
        connection = self._idle.popleft() if self._idle else self._connect()
        connection.sendall(next(self._requests))
        self._busy[connection] = Exchange(due)

    def _receive(self, seconds: float) -> None:
        readable, _, _ = select.select(list(self._busy), (), (), seconds)
        for connection in readable:
            exchange = self._busy[connection]
            data = connection.recv(_CHUNK)
            exchange.answer += data
            if data and not exchange.is_complete:
                continue
            self._latencies.append((perf_counter() - exchange.due) * 1000)
            self._errors += not exchange.is_good
            del self._busy[connection]
            if data and b"\r\nconnection: close" not in exchange.answer.lower():
                self._idle.append(connection)
            else:
                connection.close()


def percentile(ascending: list[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]


def request(port: int, path: str, token: str) -> bytes:
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Origin: https://app.example",
        f"Authorization: Bearer {token}",
    )
    return "\r\n".join(lines).encode() + _END


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--path", default="/api/load/x")
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--seconds", type=float, default=5)
    given = parser.parse_args()
    tokens = given.tokens.read_text().split()
    client = Client(
        given.port, [request(given.port, given.path, token) for token in tokens]
    )
    gc.disable()
    print(json.dumps(asdict(client.run(given.rate, given.seconds))))


if __name__ == "__main__":
    main()
