"""Every way in which a token can be wrong is a denial with a reason."""

import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)

from runtime.contracts import ErrorCode
from runtime.identity.keys import KeySet, from_pem, from_secret
from runtime.identity.tokens import Checks, Claims, Rejected, verify
from tests.builders import (
    NOW,
    SECRET,
    a_token,
    a_token_with_header,
    b64,
    claims,
    raw_token,
)

KEYS = KeySet((from_secret(SECRET),))
HEADER = b'{"alg":"HS256","typ":"JWT"}'


def check(
    token: str, checks: Checks | None = None, now: float = NOW
) -> Claims | Rejected:
    return verify(token, KEYS, checks or Checks(), now)


def reason(token: str, checks: Checks | None = None, now: float = NOW) -> str:
    outcome = check(token, checks, now)
    assert isinstance(outcome, Rejected), outcome
    return outcome.reason


def test_a_genuine_token_gives_its_claims() -> None:
    outcome = check(a_token())

    assert outcome == Claims("u-1", "user", NOW + 600, NOW - 10, "t-1")


@pytest.mark.parametrize(
    ("private", "algorithms"),
    [
        pytest.param(
            rsa.generate_private_key(65537, 2048),
            ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
            id="RSA",
        ),
        pytest.param(ec.generate_private_key(ec.SECP256R1()), ["ES256"], id="P-256"),
        pytest.param(ec.generate_private_key(ec.SECP384R1()), ["ES384"], id="P-384"),
        pytest.param(ec.generate_private_key(ec.SECP521R1()), ["ES512"], id="P-521"),
        pytest.param(ed25519.Ed25519PrivateKey.generate(), ["EdDSA"], id="Ed25519"),
    ],
)
def test_a_key_verifies_its_own_algorithms_and_no_other(
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
    algorithms: list[str],
) -> None:
    pem = private.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    keys = KeySet((from_pem(pem),))
    for algorithm in algorithms:
        token = jwt.encode(claims(), private, algorithm=algorithm)

        assert isinstance(verify(token, keys, Checks(), NOW), Claims)

    confused = raw_token(HEADER, json.dumps(claims()).encode(), secret=pem)
    assert verify(confused, keys, Checks(), NOW) == Rejected(
        ErrorCode.TOKEN_INVALID, "no_key_for_token"
    )


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_long_secret_verifies_every_hmac(algorithm: str) -> None:
    token = jwt.encode(claims(), SECRET, algorithm=algorithm)

    assert isinstance(check(token), Claims)


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", "HS257"])
def test_an_algorithm_that_no_key_is_bound_to_is_denied(name: str) -> None:
    assert reason(a_token_with_header({"alg": name})) == "no_key_for_token"
    unsigned = a_token_with_header({"alg": name}).rpartition(".")[0] + "."
    assert reason(unsigned) == "no_key_for_token" or "signature" in reason(unsigned)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param({}, "alg_missing", id="no alg"),
        pytest.param({"alg": 5}, "alg_missing", id="alg is a number"),
        pytest.param({"alg": "HS256", "kid": 7}, "kid_not_text", id="kid is a number"),
        pytest.param({"alg": "HS256", "crit": ["x"]}, "header_extension", id="crit"),
        pytest.param({"alg": "HS256", "crit": []}, "header_extension", id="empty crit"),
        pytest.param({"alg": "HS256", "b64": False}, "header_extension", id="b64"),
        pytest.param({"alg": "HS256", "enc": "A"}, "header_extension", id="enc"),
        pytest.param({"alg": "HS256", "zip": "DEF"}, "header_extension", id="zip"),
    ],
)
def test_a_header_that_asks_for_more_is_denied(
    header: dict[str, object], expected: str
) -> None:
    token = raw_token(json.dumps(header).encode(), json.dumps(claims()).encode())

    assert reason(token) == expected


def test_keys_inside_a_token_are_never_used() -> None:
    other = b"another secret, chosen by whoever made this token: 64 bytes long."
    token = a_token_with_header(
        {
            "alg": "HS256",
            "jwk": {"kty": "oct", "k": b64(other)},
            "jku": "http://127.0.0.1:9/keys",
            "x5u": "http://127.0.0.1:9/cert",
            "x5c": [b64(other)],
        },
        secret=other,
    )

    assert reason(token) == "signature"


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        pytest.param(lambda t: t + "=", "signature_encoding", id="padding"),
        pytest.param(lambda t: t + " ", "signature_encoding", id="space"),
        pytest.param(lambda t: t + "\n", "signature_encoding", id="newline"),
        pytest.param(lambda t: t + ".x", "not_three_segments", id="four segments"),
        pytest.param(lambda t: t + ".x.y", "not_three_segments", id="JWE"),
        pytest.param(lambda t: t.rpartition(".")[0], "not_three_segments", id="two"),
        pytest.param(lambda _: "", "not_three_segments", id="empty"),
        pytest.param(lambda _: "..", "header_encoding", id="only dots"),
        pytest.param(lambda t: "é" + t, "header_encoding", id="not ASCII"),
        pytest.param(lambda t: t + "A" * 9000, "too_large", id="over 8 KB"),
        pytest.param(lambda t: t[:-1], "signature_encoding", id="cut short"),
    ],
)
def test_a_token_in_any_other_spelling_is_denied(spoil: object, expected: str) -> None:
    assert callable(spoil)
    assert reason(spoil(a_token())) == expected


def test_no_second_spelling_of_a_signature_is_accepted() -> None:
    token = a_token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    accepted = [c for c in alphabet if isinstance(check(token[:-1] + c), Claims)]

    assert accepted == [token[-1]]


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"[]", id="an array"),
        pytest.param(b'"text"', id="a string"),
        pytest.param(b"{}x", id="trailing data"),
        pytest.param(b'\xef\xbb\xbf{"sub":"a"}', id="byte order mark"),
        pytest.param('{"sub":"a"}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"sub":"\xff"}', id="not UTF-8"),
        pytest.param(b'{"sub":"a","sub":"b"}', id="a member twice"),
        pytest.param(b'{"exp":NaN}', id="NaN"),
        pytest.param(b'{"a":' + b"[" * 17 + b"]" * 17 + b"}", id="nested over 16"),
        pytest.param(b'{"a":' + b"[" * 3000, id="nested and cut"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", id="a number of 5000 digits"),
    ],
)
def test_a_payload_with_more_than_one_reading_is_denied(payload: bytes) -> None:
    assert reason(raw_token(HEADER, payload)) == "payload_json"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b'{"alg":"none","alg":"HS256"}', id="a member twice"),
        pytest.param(b'{"alg":"HS256"} {}', id="trailing data"),
        pytest.param('{"alg":"HS256"}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"alg":"HS256","x":"\xff"}', id="not UTF-8"),
        pytest.param(b'"HS256"', id="a string"),
        pytest.param(b'{"alg":"HS256","a":' + b"[" * 17 + b"]" * 17 + b"}", id="deep"),
    ],
)
def test_a_header_with_more_than_one_reading_is_denied(header: bytes) -> None:
    assert reason(raw_token(header, json.dumps(claims()).encode())) == "header_json"


@pytest.mark.parametrize("value", [None, [], {}, "1", True, float("inf")], ids=repr)
@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
def test_a_time_that_is_not_a_finite_number_is_denied(name: str, value: object) -> None:
    payload = json.dumps(claims(**{name: value})).replace("Infinity", "1e999")

    assert reason(raw_token(HEADER, payload.encode())).startswith(f"{name}_not_")


@pytest.mark.parametrize("name", ["sub", "role", "jti"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="null"),
        pytest.param("", id="empty"),
        pytest.param(7, id="number"),
        pytest.param("x" * 257, id="too long"),
        pytest.param("a\nb", id="newline"),
        pytest.param("a\x00b", id="NUL"),
        pytest.param("a\u200bb", id="zero width space"),
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param(" admin", id="leading space"),
        pytest.param("admin ", id="trailing space"),
    ],
)
def test_a_name_that_is_not_visible_text_is_denied(name: str, value: object) -> None:
    assert reason(a_token(**{name: value})).startswith(f"{name}_not_")


@pytest.mark.parametrize("name", ["sub", "role", "exp"])
def test_a_required_claim_must_be_there(name: str) -> None:
    assert isinstance(check(a_token(**{name: ...})), Rejected)


@pytest.mark.parametrize("name", ["iat", "jti"])
def test_an_optional_claim_may_be_missing(name: str) -> None:
    assert isinstance(check(a_token(**{name: ...})), Claims)


def test_a_token_expires_after_the_leeway() -> None:
    token, checks = a_token(exp=NOW), Checks(leeway_s=30)

    assert isinstance(check(token, checks, NOW + 29.9), Claims)
    assert check(token, checks, NOW + 30) == Rejected(
        ErrorCode.TOKEN_EXPIRED, "expired"
    )


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_a_token_from_the_future_is_denied_beyond_the_leeway(name: str) -> None:
    token = a_token(**{name: NOW + 31})

    assert reason(token) == "not_yet_valid"
    assert isinstance(check(token, now=NOW + 1), Claims)


def test_issuer_and_audience_are_checked_when_configured() -> None:
    checks = Checks(issuer="hub", audience="api")
    good: dict[str, object] = {"iss": "hub", "aud": ["web", "api"]}

    assert isinstance(check(a_token(**good), checks), Claims)
    assert isinstance(check(a_token(**{**good, "aud": "api"}), checks), Claims)
    assert reason(a_token(**{**good, "iss": "hub2"}), checks) == "issuer"
    assert reason(a_token(**{**good, "iss": ...}), checks) == "issuer"
    assert reason(a_token(**{**good, "aud": "web"}), checks) == "audience"
    assert reason(a_token(**{**good, "aud": ...}), checks) == "audience"
    assert reason(a_token(**{**good, "aud": {"api": 1}}), checks) == "audience"


def test_a_kid_selects_among_keys_and_never_widens() -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    pem = private.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    named = from_pem(pem)
    keys = KeySet((type(named)(named.key, named.algorithms, kid="k1"),))

    def verdict(kid: str) -> Claims | Rejected:
        token = jwt.encode(claims(), private, "EdDSA", headers={"kid": kid})
        return verify(token, keys, Checks(), NOW)

    assert isinstance(verdict("k1"), Claims)
    assert verdict("k2") == Rejected(ErrorCode.TOKEN_INVALID, "key_unknown")
