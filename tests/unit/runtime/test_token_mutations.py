"""No change to a genuine token leaves it genuine."""

import json
import string
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from runtime.identity.keys import KeySet, from_pem, from_secret
from runtime.identity.tokens import Checks, Claims, verify
from tests.builders import NOW, SECRET, a_token, b64, claims

PRIVATE: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
KEYS = KeySet(
    (
        from_secret(SECRET),
        *(
            from_pem(
                key.public_key().public_bytes(
                    Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
                )
            )
            for key in PRIVATE.values()
        ),
    )
)
TOKENS = [
    a_token(),
    *(jwt.encode(claims(), key, name) for name, key in PRIVATE.items()),
]
#: What a hostile client might put into a token, and what it is made of.
CHARACTERS = string.ascii_letters + string.digits + "-_.=+/ ,;%\x00\t\n\u00e9\u2028"


def passes(token: str) -> bool:
    return isinstance(verify(token, KEYS, Checks(), NOW), Claims)


@pytest.mark.parametrize("token", TOKENS, ids=["HS256", *PRIVATE])
def test_the_tokens_themselves_pass(token: str) -> None:
    assert passes(token)


@given(
    st.sampled_from(TOKENS),
    st.integers(min_value=0),
    st.sampled_from(["replace", "insert", "delete", "double"]),
    st.sampled_from(CHARACTERS),
)
def test_no_changed_character_passes(
    token: str, place: int, change: str, character: str
) -> None:
    at = place % len(token)
    middle = {
        "replace": character,
        "insert": character + token[at],
        "delete": "",
        "double": token[at] * 2,
    }[change]
    changed = token[:at] + middle + token[at + 1 :]

    assert passes(changed) == (changed == token)


@given(st.lists(st.sampled_from([p for t in TOKENS for p in t.split(".")]), max_size=4))
def test_no_other_arrangement_of_genuine_parts_passes(parts: list[str]) -> None:
    token = ".".join(parts)

    assert passes(token) == (token in TOKENS)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner)
    ),
    max_leaves=6,
)


@given(
    st.sampled_from(TOKENS),
    st.sampled_from(["sub", "role", "exp", "iat", "jti", "admin"]),
    VALUES,
)
def test_no_claim_can_be_changed_without_the_key(
    token: str, name: str, value: Any
) -> None:
    header, payload, signature = token.split(".")
    changed = {**claims(), name: value}
    forged = f"{header}.{b64(json.dumps(changed).encode())}.{signature}"

    assert not passes(forged) or forged == token
    assert payload


@given(
    st.sampled_from(TOKENS),
    st.dictionaries(st.sampled_from(["alg", "kid", "jwk", "crit", "typ"]), VALUES),
)
def test_no_header_can_be_changed_without_the_key(
    token: str, header: dict[str, Any]
) -> None:
    _, payload, signature = token.split(".")
    forged = f"{b64(json.dumps(header).encode())}.{payload}.{signature}"

    assert not passes(forged)


@given(
    st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin1"))
)
def test_anything_else_is_a_denial_and_never_an_exception(text: str) -> None:
    assert not passes(text)


@given(st.dictionaries(st.sampled_from(list(claims())), VALUES))
def test_signed_claims_of_any_kind_are_claims_or_a_denial(body: dict[str, Any]) -> None:
    payload = json.dumps(body).encode()
    token = jwt.api_jws.encode(payload, SECRET, "HS256")
    outcome = verify(token, KEYS, Checks(), NOW)

    if isinstance(outcome, Claims):
        assert outcome.sub.isprintable()
        assert outcome.role.isprintable()
        assert outcome.exp + 30 > NOW
