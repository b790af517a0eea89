"""An upstream that remembers what reached it, and a client that sends raw bytes."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.stack import Stack

DEADLINE_S = 10.0


@dataclass(frozen=True)
class Seen:
    """One request as the upstream got it."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class Recorder:
    """A service of the gateway, reached by the route `/api/probe`."""

    port: int
    seen: list[Seen] = field(default_factory=list)
    close: Callable[[], None] = lambda: None
    freeze: Callable[[], None] = lambda: None

    def by_path(self, text: str) -> list[Seen]:
        return [one for one in self.seen if text in one.path]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name = name
        self.seen: list[Seen] = []
        self.connections: list[socket.socket] = []
        self.answering = threading.Event()
        self.answering.set()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self.thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)

    def die(self) -> None:
        """As if the process had died: the port refuses, connections end."""
        self.answering.set()
        self.shutdown()
        self.thread.join()
        self.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        assert isinstance(self.server, _Server)
        try:
            body = self._body()
        except (ConnectionError, ValueError):
            self.close_connection = True  # cut short: it never arrived as a request
            return
        self.server.answering.wait()
        headers = list(self.headers.items())
        self.server.seen.append(Seen(self.command, self.path, headers, body))
        answer = json.dumps({"upstream": self.server.name}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = _answer  # noqa: N815 - http.server's names
    do_OPTIONS = do_TRACE = _answer  # noqa: N815 - ditto

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self._exactly(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self._line(), 16):
            body += self._exactly(size)
            self._line()
        self._line()
        return body

    def _exactly(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionAbortedError
        return data

    def _line(self) -> bytes:
        line = self.rfile.readline()
        if not line:
            raise ConnectionAbortedError
        return line

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextmanager
def recording(name: str = "") -> Iterator[Recorder]:
    """An upstream on a free port; answers 200 with its name."""
    server = _Server(name)
    try:
        yield Recorder(
            server.server_address[1], server.seen, server.die, server.answering.clear
        )
    finally:
        server.die()


@contextmanager
def probe_route(stack: Stack, recorder: Recorder, **changes: object) -> Iterator[str]:
    """Route a prefix of its own to `recorder`; gives the prefix."""
    name = f"probe-{recorder.port}"
    service = {"instances": [f"127.0.0.1:{recorder.port}"]}
    route = {
        "id": name,
        "prefix": f"/api/{name}",
        "service": name,
        "rate_limit": "none",
        **changes,
    }
    put = stack.control("PUT", f"services/{name}", service)
    assert put.status_code == 200, put.text
    put = stack.control("PUT", f"routes/{name}", route)
    assert put.status_code == 200, put.text
    try:
        yield f"/api/{name}"
    finally:
        stack.control("DELETE", f"routes/{name}")
        stack.control("DELETE", f"services/{name}")


@dataclass(frozen=True)
class RawAnswer:
    """What came back for raw bytes; status 0: the connection was just closed."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["code"])


def send_raw(stack: Stack, request: bytes) -> RawAnswer:
    """Send exactly these bytes and read one answer."""
    parts = urlsplit(stack.gateway)
    assert parts.hostname is not None
    address = (parts.hostname, parts.port or 80)
    with socket.create_connection(address, timeout=DEADLINE_S) as connection:
        connection.sendall(request)
        data = b""
        while not _is_whole(data):
            try:
                part = connection.recv(65536)
            except ConnectionResetError:
                break
            if not part:
                break
            data += part
    return _parse(data)


def _is_whole(data: bytes) -> bool:
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return False
    headers = _headers(head)
    return len(body) >= int(headers.get("content-length", "1000000000"))


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _parse(data: bytes) -> RawAnswer:
    if not data:
        return RawAnswer(0, {}, b"")
    head, _, body = data.partition(b"\r\n\r\n")
    return RawAnswer(int(head.split(b" ")[1]), _headers(head), body)


def authz_errors(stack: Stack) -> int:
    """How often Envoy got no decision out of authz."""
    url = f"{stack.ready['envoy_admin']}/stats?filter=ext_authz.error"
    text = stack.http.get(url).text
    return sum(int(line.rpartition(":")[2]) for line in text.splitlines() if line)
