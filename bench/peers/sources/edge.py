"""What both proxies by hand share: tokens, headers, denials."""

import json
import socket
from time import time_ns
from typing import Any

import jwt

from bench.peers.sources import settings

BACKLOG = 8192
_KEPT_TOKENS = 10_000
_REASONS = {401: "Unauthorized", 429: "Too Many Requests", 502: "Bad Gateway"}

#: What a client may not say.
NOT_PASSED = {b"connection", b"host", b"x-user-id", b"x-user-role", b"x-request-id"}
#: What every answer gets.
ADDED = (
    "".join(f"{name}: {value}\r\n" for name, value in settings.SECURITY_HEADERS.items())
    + f"access-control-allow-origin: {settings.ORIGIN}\r\n"
    "access-control-allow-credentials: true\r\nvary: origin\r\n"
).encode()


class Tokens:
    """Verifies, and keeps what it verified."""

    def __init__(self) -> None:
        self._kept: dict[bytes, dict[str, Any]] = {}

    def verify(self, token: bytes) -> dict[str, Any] | None:
        claims = self._kept.get(token)
        if claims is None:
            try:
                claims = jwt.decode(token, settings.SECRET, ["HS256"])
            except jwt.InvalidTokenError:
                return None
            if len(self._kept) >= _KEPT_TOKENS:
                self._kept.clear()
            self._kept[token] = claims
        return claims if claims["exp"] > time_ns() / 1e9 else None


def identity(claims: dict[str, Any], request_id: object) -> bytes:
    return (
        f"x-user-id: {claims['sub']}\r\nx-user-role: {claims['role']}\r\n"
        f"x-request-id: {request_id}\r\n"
    ).encode()


def denial(status: int) -> bytes:
    body = json.dumps({"code": status}).encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
    )
    return head.encode() + ADDED + b"\r\n" + body


def shared_socket() -> socket.socket:
    """One of several that share a port."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind(("127.0.0.1", settings.PORT))
    return listening
