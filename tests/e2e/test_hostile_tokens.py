"""No token but a genuine one reaches an upstream; authz never fails on any of them."""

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from runtime.clock import SystemClock
from tests.builders import b64, raw_token
from tests.e2e.recorder import (
    Recorder,
    authz_errors,
    recording,
    send_raw,
)
from tests.e2e.stack import Stack

pytestmark = pytest.mark.e2e

HEADER = {"alg": "HS256", "typ": "JWT"}


@pytest.fixture
def secret(stack: Stack) -> bytes:
    return (stack.data_dir / "jwt.secret").read_bytes()


def claims(**changes: Any) -> dict[str, Any]:
    now = SystemClock().now()
    values = {
        "sub": "u",
        "role": "admin",
        "iat": int(now),
        "exp": int(now) + 600,
        "jti": "hostile",
        **changes,
    }
    return {name: value for name, value in values.items() if value is not ...}


def signed(secret: bytes, header: Any = None, payload: Any = None) -> str:
    """Correctly signed, whatever it says."""
    head = (
        header if isinstance(header, bytes) else json.dumps(header or HEADER).encode()
    )
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return raw_token(head, body, secret)


def refused(stack: Stack, prefix: str, upstream: Recorder, value: bytes) -> str:
    """Send this Authorization value; give the code of the refusal."""
    errors, seen = authz_errors(stack), len(upstream.seen)
    answer = send_raw(
        stack,
        b"GET " + prefix.encode() + b"/x HTTP/1.1\r\nhost: h\r\n"
        b"authorization: " + value + b"\r\n\r\n",
    )

    assert (answer.status, authz_errors(stack)) == (401, errors), answer
    assert len(upstream.seen) == seen
    assert answer.headers["content-type"] == "application/json"
    return answer.code


def test_a_genuine_token_does_pass(
    stack: Stack, prefix: str, upstream: Recorder, secret: bytes
) -> None:
    token = signed(secret, payload=claims())
    answer = stack.get(f"{prefix}/genuine", token)

    assert answer.status_code == 200
    assert len(upstream.by_path("/genuine")) == 1


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", "HS255", "RS256"])
def test_no_spelling_of_another_algorithm_passes(
    stack: Stack, prefix: str, upstream: Recorder, secret: bytes, name: str
) -> None:
    token = signed(secret, {"alg": name}, claims())
    unsigned = token.rpartition(".")[0] + "."

    for one in (token, unsigned):
        value = f"Bearer {one}".encode()
        assert refused(stack, prefix, upstream, value) == "TOKEN_INVALID"


HEADERS: dict[str, dict[str, Any]] = {
    "unknown crit": {"crit": ["exp"], "exp": 1},
    "empty crit": {"crit": []},
    "b64 false": {"b64": False, "crit": ["b64"]},
    "kid is a number": {"kid": 1},
    "kid is an object": {"kid": {}},
    "alg is a list": {"alg": ["HS256"]},
    "alg is null": {"alg": None},
    "nested": {"x": [[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]},
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_asks_for_more_never_passes(
    stack: Stack, prefix: str, upstream: Recorder, secret: bytes, name: str
) -> None:
    token = signed(secret, {**HEADER, **HEADERS[name]}, claims())

    value = f"Bearer {token}".encode()
    assert refused(stack, prefix, upstream, value) == "TOKEN_INVALID"


def test_a_key_that_comes_with_the_token_is_never_used(
    stack: Stack, prefix: str, upstream: Recorder
) -> None:
    """Neither embedded nor fetched: nobody asks the address that the token names."""
    key = rsa.generate_private_key(65537, 2048)
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    with recording() as keys:
        url = f"http://127.0.0.1:{keys.port}/jwks"
        for header in ({"jwk": jwk}, {"jku": url}, {"x5u": url}, {"x5c": ["AAAA"]}):
            token = jwt.encode(claims(), key, "RS256", headers=header)
            value = f"Bearer {token}".encode()
            assert refused(stack, prefix, upstream, value) == "TOKEN_INVALID"

        assert keys.seen == []


def test_an_encrypted_token_never_passes(
    stack: Stack, prefix: str, upstream: Recorder
) -> None:
    header = b64(b'{"alg":"dir","enc":"A256GCM"}')
    value = f"Bearer {header}..AAAA.AAAA.AAAA".encode()

    assert refused(stack, prefix, upstream, value) == "TOKEN_INVALID"


PAYLOADS: dict[str, bytes] = {
    "not UTF-8": b'{"sub":"\xff\xfe","role":"admin","exp":9999999999}',
    "UTF-16": '{"sub":"u","role":"admin","exp":9999999999}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"sub":"u","role":"admin","exp":9999999999}',
    "a member twice": b'{"sub":"u","sub":"v","role":"admin","exp":9999999999}',
    "trailing data": b'{"sub":"u","role":"admin","exp":9999999999}{}',
    "an array": b'[{"sub":"u","role":"admin","exp":9999999999}]',
    "exp null": b'{"sub":"u","role":"admin","exp":null}',
    "exp a list": b'{"sub":"u","role":"admin","exp":[]}',
    "exp an object": b'{"sub":"u","role":"admin","exp":{}}',
    "exp text": b'{"sub":"u","role":"admin","exp":"9999999999"}',
    "exp true": b'{"sub":"u","role":"admin","exp":true}',
    "exp infinite": b'{"sub":"u","role":"admin","exp":1e999}',
    "exp Infinity": b'{"sub":"u","role":"admin","exp":Infinity}',
    "exp NaN": b'{"sub":"u","role":"admin","exp":NaN}',
    "nbf null": b'{"sub":"u","role":"admin","exp":9999999999,"nbf":null}',
    "iat text": b'{"sub":"u","role":"admin","exp":9999999999,"iat":"1"}',
    "no exp": b'{"sub":"u","role":"admin"}',
    "no sub": b'{"role":"admin","exp":9999999999}',
    "no role": b'{"sub":"u","exp":9999999999}',
    "sub a number": b'{"sub":1,"role":"admin","exp":9999999999}',
    "sub with a newline": b'{"sub":"u\\nx-user-role: admin","role":"u","exp":9e9}',
    "sub with NUL": b'{"sub":"u\\u0000","role":"admin","exp":9999999999}',
    "sub of spaces": b'{"sub":"   ","role":"admin","exp":9999999999}',
    "sub ends in a space": b'{"sub":"root ","role":"admin","exp":9999999999}',
    "sub too long": b'{"sub":"' + b"u" * 257 + b'","role":"admin","exp":9999999999}',
    "role with CR": b'{"sub":"u","role":"user\\radmin","exp":9999999999}',
    "role a list": b'{"sub":"u","role":["admin"],"exp":9999999999}',
    "nested over 16": b'{"a":' + b"[" * 17 + b"]" * 17 + b',"sub":"u"}',
    "deep and cut": b'{"a":' + b"[" * 2000,
    "a number of 5000 digits": b'{"exp":' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_with_more_than_one_reading_never_passes(
    stack: Stack, prefix: str, upstream: Recorder, secret: bytes, name: str
) -> None:
    token = signed(secret, payload=PAYLOADS[name])

    value = f"Bearer {token}".encode()
    assert refused(stack, prefix, upstream, value) == "TOKEN_INVALID"


SPOILS: dict[str, Any] = {
    "padding": lambda t: t + "=",
    "inner space": lambda t: t.replace(".", ". ", 1),
    "plus": lambda t: t[:-2] + "+/",
    "two segments": lambda t: t.rpartition(".")[0],
    "four segments": lambda t: t + ".AAAA",
    "empty signature": lambda t: t.rpartition(".")[0] + ".",
    "another last bit": lambda t: t[:-1] + ("B" if t[-1] == "A" else "A"),
    "too long": lambda t: t + "A" * 8200,
    "only dots": lambda _: "..",
    "text": lambda _: "null",
}


@pytest.mark.parametrize("name", SPOILS)
def test_no_other_spelling_of_a_genuine_token_passes(
    stack: Stack, prefix: str, upstream: Recorder, secret: bytes, name: str
) -> None:
    token = SPOILS[name](signed(secret, payload=claims()))

    value = f"Bearer {token}".encode()
    assert refused(stack, prefix, upstream, value) == "TOKEN_INVALID"


def test_two_credentials_never_pass_whichever_is_genuine(
    stack: Stack, prefix: str, upstream: Recorder, secret: bytes
) -> None:
    genuine = signed(secret, payload=claims()).encode()
    values = [
        b"Bearer " + genuine + b",Bearer evil",
        b"Bearer " + genuine + b", Bearer " + genuine,
        b"Bearer evil\r\nauthorization: Bearer " + genuine,
        b"Bearer " + genuine + b"\r\nAuthorization: Bearer evil",
        b"Basic YTpi\r\nauthorization: Bearer " + genuine,
    ]

    for value in values:
        assert refused(stack, prefix, upstream, value) == "TOKEN_INVALID"


@pytest.mark.parametrize(
    "value", [b"", b"Bearer", b"Basic YTpi", b"Bearer  x", b"\xff"]
)
def test_what_is_no_bearer_token_never_passes(
    stack: Stack, prefix: str, upstream: Recorder, value: bytes
) -> None:
    assert refused(stack, prefix, upstream, value) in {"TOKEN_INVALID", "TOKEN_MISSING"}


@pytest.mark.parametrize("place", ["?access_token=", "?token=", "?jwt="])
def test_a_token_in_the_url_counts_for_nothing(
    stack: Stack, prefix: str, upstream: Recorder, secret: bytes, place: str
) -> None:
    seen = len(upstream.seen)
    answer = stack.get(f"{prefix}/x{place}{signed(secret, payload=claims())}")

    assert (answer.status_code, len(upstream.seen)) == (401, seen)
    assert answer.json()["code"] == "TOKEN_MISSING"
