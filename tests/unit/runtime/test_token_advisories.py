"""Published holes of JWT libraries, each tried on ours; named by its advisory."""

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

from runtime.identity.keys import KeyRefused, KeySet, from_jwks, from_pem, from_secret
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

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


def public(key: Any, encoding: Encoding, form: PublicFormat) -> bytes:
    return bytes(key.public_key().public_bytes(encoding, form))


def pem(key: Any) -> bytes:
    return public(key, Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def reason(token: str, keys: KeySet, checks: Checks | None = None) -> str:
    outcome = verify(token, keys, checks or Checks(), NOW)
    assert isinstance(outcome, Rejected), outcome
    return outcome.reason


def test_cve_2015_9235_a_token_signed_with_the_public_key_as_secret() -> None:
    payload = json.dumps(claims()).encode()
    for form in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1):
        forged = raw_token(b'{"alg":"HS256"}', payload, public(RSA, Encoding.PEM, form))

        assert reason(forged, KeySet((from_pem(pem(RSA)),))) == "no_key_for_token"


@pytest.mark.parametrize("name", ["none", "None", "nOnE", "NONE"])
def test_cve_2015_9235_no_algorithm_is_no_signature(name: str) -> None:
    head = b64(json.dumps({"alg": name}).encode())
    body = b64(json.dumps(claims()).encode())
    keys = KeySet((from_secret(SECRET), from_pem(pem(RSA))))

    assert reason(f"{head}.{body}.", keys) == "signature_encoding"
    assert reason(f"{head}.{body}.AA", keys) == "no_key_for_token"


@pytest.mark.parametrize(
    "key",
    [
        public(EC, Encoding.OpenSSH, PublicFormat.OpenSSH),
        public(RSA, Encoding.OpenSSH, PublicFormat.OpenSSH),
        public(RSA, Encoding.PEM, PublicFormat.PKCS1),
        pem(EC),
    ],
    ids=["ssh EC", "ssh RSA", "PKCS1", "SPKI"],
)
def test_ghsa_ffqj_6fqr_9h24_a_public_key_is_never_a_secret(key: bytes) -> None:
    with pytest.raises(KeyRefused, match="no secret"):
        from_secret(key)


def test_cve_2018_0114_a_key_that_the_token_brings_is_not_used() -> None:
    mine = ec.generate_private_key(ec.SECP256R1())
    brought = ECAlgorithm.to_jwk(mine.public_key(), as_dict=True)
    forged = jwt.encode(claims(), mine, "ES256", headers={"jwk": brought})

    assert reason(forged, KeySet((from_pem(pem(EC)),))) == "signature"


@pytest.mark.parametrize(
    "signature", [bytes(64), b"\x00" * 63 + b"\x01"], ids=["zero", "one"]
)
def test_cve_2022_21449_a_signature_of_zeros_is_none(signature: bytes) -> None:
    head = b64(b'{"alg":"ES256"}')
    forged = f"{head}.{b64(json.dumps(claims()).encode())}.{b64(signature)}"

    assert reason(forged, KeySet((from_pem(pem(EC)),))) == "signature"


@pytest.mark.parametrize("crit", [["bork"], ["exp"], [], "b64", None], ids=repr)
def test_ghsa_752w_5fwx_jx9f_an_unknown_critical_extension(crit: object) -> None:
    forged = a_token_with_header({"alg": "HS256", "crit": crit, "bork": 1})

    assert reason(forged, KeySet((from_secret(SECRET),))) == "header_extension"


@pytest.mark.parametrize("issuer", ["abc", "", "_abc_d", ["_abc_"], "_ABC_"], ids=repr)
def test_ghsa_75c5_xw7c_p5pm_an_issuer_that_resembles_ours(issuer: object) -> None:
    checks, keys = Checks(issuer="_abc_"), KeySet((from_secret(SECRET),))

    assert reason(a_token(iss=issuer), keys, checks) == "issuer"
    assert isinstance(verify(a_token(iss="_abc_"), keys, checks, NOW), Claims)


def test_cve_2024_33664_a_compressed_token_is_never_unpacked() -> None:
    header = {"alg": "HS256", "enc": "A256GCM", "zip": "DEF"}
    keys = KeySet((from_secret(SECRET),))

    assert reason(a_token_with_header(header), keys) == "header_extension"
    assert reason("a.b.c.d.e", keys) == "not_three_segments"


@pytest.mark.parametrize("kid", ["../../dev/null", "' OR 1=1 --", "|id", ""], ids=repr)
def test_a_kid_is_compared_and_never_a_path_or_a_query(kid: str) -> None:
    one = {**ECAlgorithm.to_jwk(EC.public_key(), as_dict=True), "kid": "k"}
    named, _ = from_jwks(json.dumps({"keys": [one]}))
    forged = jwt.encode(claims(), EC, "ES256", headers={"kid": kid})

    assert reason(forged, KeySet(tuple(named))) == "key_unknown"


def test_roca_and_friends_a_short_rsa_key_is_refused() -> None:
    number = base64.urlsafe_b64encode(b"\xff" * 128).rstrip(b"=").decode()
    short = {"kty": "RSA", "n": number, "e": "AQAB", "kid": "weak"}
    keys, refused = from_jwks(json.dumps({"keys": [short]}))

    assert keys == []
    assert refused == ["keys[0]: RSA 1024 bits; at least 2048"]
