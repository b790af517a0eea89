"""Values for tests, with defaults: name only what the test is about."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from envoy.service.auth.v3 import external_auth_pb2 as auth_pb

from runtime.clock import Clock
from runtime.identity.keys import KeySet, from_secret
from runtime.identity.tokens import Checks
from runtime.identity.verifier import StaticKeys, Verifier

NOW = 1_700_000_000.0
SECRET = b"a secret that is long enough to sign with HS256, HS384 and HS512" + b"."


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    """A user's claims; a change to `...` leaves the claim out."""
    values: dict[str, Any] = {
        "sub": "u-1",
        "role": "user",
        "iat": NOW - 10,
        "exp": NOW + 600,
        "jti": "t-1",
        **changes,
    }
    return {name: value for name, value in values.items() if value is not ...}


def raw_token(header: bytes, payload: bytes, secret: bytes = SECRET) -> str:
    """Any bytes, correctly signed with HS256."""
    signed = f"{b64(header)}.{b64(payload)}"
    signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{b64(signature)}"


def a_token(**changes: Any) -> str:
    """A genuine token with these claims."""
    return a_token_with_header({"alg": "HS256", "typ": "JWT"}, **changes)


def a_token_with_header(
    header: Mapping[str, object], *, secret: bytes = SECRET, **changes: Any
) -> str:
    """A token signed with HS256, whatever its header says."""
    payload = json.dumps(claims(**changes)).encode()
    return raw_token(json.dumps(header).encode(), payload, secret)


def a_verifier(clock: Clock) -> Verifier:
    """It knows the key of these tokens and asks for nothing else."""
    return Verifier(StaticKeys(KeySet((from_secret(SECRET),))), Checks(), clock)


def a_check_request(headers: Mapping[str, str] | None = None, **context: str) -> Any:
    """What Envoy asks authz; the route requires a token unless `context` says else."""
    request = auth_pb.CheckRequest()
    policy = {"route": "users", "auth": "required", "service": "core-service"}
    request.attributes.context_extensions["policy"] = json.dumps({**policy, **context})
    request.attributes.request.http.path = "/api/users/me"
    request.attributes.request.http.headers.update(
        {"x-request-id": "00000000-0000-4000-8000-000000000001", **(headers or {})}
    )
    return request
