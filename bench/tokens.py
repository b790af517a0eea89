"""Tokens for the load: real ones, of one length, a line each."""

import base64
import hmac
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import time_ns
from typing import Any, Final

import jwt

_TTL_S: Final = 24 * 3600
_NS_PER_S: Final = 1_000_000_000
_NAME_DIGITS: Final = 8


@dataclass(frozen=True, slots=True)
class Issuer:
    """Makes tokens of one key. `padding`: characters of a claim that no one reads."""

    key: Any
    algorithm: str = "HS256"
    role: str = "load"
    padding: int = 0
    #: Tells tokens of one run from those of another, so that each is new.
    serial: str = ""

    def of(self, user: int, **more: Any) -> str:
        """The token of the user with that number."""
        return self._sign(self.claims(user, **more))

    def claims(self, user: int, **more: Any) -> dict[str, Any]:
        now = time_ns() // _NS_PER_S
        name = f"{user:0{_NAME_DIGITS}d}"
        found = {
            "sub": f"u{name}",
            "role": self.role,
            "jti": f"{self.serial}{name}",
            "iat": now,
            "exp": now + _TTL_S,
        }
        if self.padding:
            found["pad"] = "x" * self.padding
        return {**found, **more}

    def for_role(self, role: str) -> "Issuer":
        """Another issuer, for that role, whose tokens are new ones."""
        return replace(self, role=role, serial=secrets.token_hex(4))

    def _sign(self, claims: dict[str, Any]) -> str:
        if self.algorithm != "HS256":
            return jwt.encode(claims, self.key, self.algorithm)
        # Ten times as fast as the library, for a million of them.
        head = _segment({"alg": "HS256", "typ": "JWT"})
        signed = f"{head}.{_segment(claims)}"
        mac = hmac.digest(self.key, signed.encode(), "sha256")
        return f"{signed}.{_base64url(mac)}"


def write(path: Path, tokens: Iterable[str]) -> Path:
    with path.open("w") as file:
        file.writelines(f"{token}\n" for token in tokens)
    return path


def users(issuer: Issuer, count: int) -> Iterator[str]:
    return (issuer.of(user) for user in range(count))


def _segment(value: dict[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
