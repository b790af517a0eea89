"""Verification keys, each bound to its algorithms (RFC 8725 §3.1).

The token names an algorithm; the key decides whether it may be used.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from runtime.values import value

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

MIN_RSA_BITS = 2048  # NIST SP 800-131A, RFC 7518 §3.3
MIN_SECRET_BYTES = 32  # RFC 7518 §3.2: as long as the hash of HS256

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_EC = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
#: What the keys of a JWK Set can verify.
PUBLIC_KEY_ALGORITHMS = _RSA | {*_EC.values(), "EdDSA"}
#: How keys begin that are no shared secrets (GHSA-ffqj-6fqr-9h24).
_PUBLIC_MARKS = (b"-----BEGIN", b"ssh-", b"ecdsa-sha2-", b"sk-ssh-")
_HMAC_BY_LENGTH = ((32, "HS256"), (48, "HS384"), (64, "HS512"))


class KeyRefused(ValueError):
    """This key can't be trusted to verify tokens; the message says why."""


@value
class Party:
    """Whose key it is: tokens that it verifies must say so; None: not checked."""

    issuer: str | None = None
    audience: str | None = None


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key, what it may verify, and the `kid` it answers to (None: any)."""

    key: PublicKey | bytes
    algorithms: frozenset[str]
    kid: str | None = None
    #: None: what the process's own settings ask.
    party: Party | None = None

    def __repr__(self) -> str:
        return f"VerificationKey(kid={self.kid!r}, {sorted(self.algorithms)})"


@dataclass(frozen=True, slots=True)
class KeySet:
    """All keys that a token may be signed with."""

    keys: tuple[VerificationKey, ...]

    def candidates(self, algorithm: str, kid: str | None) -> list[VerificationKey]:
        """Keys that may verify such a token; a `kid` never widens the choice."""
        return [
            key
            for key in self.keys
            if algorithm in key.algorithms
            and (kid is None or key.kid is None or key.kid == kid)
        ]


def from_secret(secret: bytes) -> VerificationKey:
    """An HMAC key, for the hashes that it is long enough for.

    Raises:
        KeyRefused: shorter than 32 bytes, or a key that others may have.
    """
    if len(secret) < MIN_SECRET_BYTES:
        raise KeyRefused(
            f"HMAC secret has {len(secret)} bytes; give at least {MIN_SECRET_BYTES}"
        )
    if secret.lstrip().startswith(_PUBLIC_MARKS):
        raise KeyRefused("a public or PEM key is no secret; use HUBGATE_JWT_PEM_FILES")
    names = {name for length, name in _HMAC_BY_LENGTH if len(secret) >= length}
    return VerificationKey(secret, frozenset(names))


def from_pem(pem: bytes) -> VerificationKey:
    """An RSA, EC or Ed25519 public key in PEM (SubjectPublicKeyInfo).

    Raises:
        KeyRefused: not such a key, or too weak.
    """
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyRefused(
            "not a PEM public key; give '-----BEGIN PUBLIC KEY-----' …"
        ) from error
    return VerificationKey(*_bind(key))


def from_jwks(text: str | bytes) -> tuple[list[VerificationKey], list[str]]:
    """The keys of a JWK Set (RFC 7517 §5), and why others were left out.

    Raises:
        KeyRefused: the document is not a JWK Set.
    """
    try:
        document = json.loads(text)
        entries = document["keys"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise KeyRefused('not a JWK Set; expected {"keys": […]}') from error
    if not isinstance(entries, list):
        raise KeyRefused('"keys" of a JWK Set must be a list')
    keys: list[VerificationKey] = []
    refused: list[str] = []
    for position, entry in enumerate(entries):
        try:
            keys.append(_from_jwk(entry, {key.kid for key in keys}))
        except KeyRefused as error:
            refused.append(f"keys[{position}]: {error}")
    return keys, refused


def _from_jwk(entry: object, seen: set[str | None]) -> VerificationKey:
    if not isinstance(entry, dict):
        raise KeyRefused("not an object")
    kid = entry.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise KeyRefused("kid is not a string")
    if kid is not None and kid in seen:
        raise KeyRefused(f"duplicate kid {kid!r}")
    if entry.get("use", "sig") != "sig":
        raise KeyRefused(f"use is {entry['use']!r}, not 'sig'")
    return _narrow(_parse_jwk(entry), entry.get("alg"), kid)


def _parse_jwk(entry: Mapping[str, Any]) -> VerificationKey:
    if entry.get("kty") == "oct":
        # A set is a public document; a shared secret in it is a mistake.
        raise KeyRefused("kty 'oct': use a secret file for HMAC keys")
    if "d" in entry:
        raise KeyRefused("holds a private key; publish the public half only")
    # The curve or key type decides; `alg` only narrows what is allowed afterwards.
    bare = {name: value for name, value in entry.items() if name != "alg"}
    try:
        key = PyJWK(bare).key
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise KeyRefused(f"unreadable: {type(error).__name__}") from error
    return VerificationKey(*_bind(key))


def _narrow(
    key: VerificationKey, algorithm: object, kid: str | None
) -> VerificationKey:
    if algorithm is None:
        return VerificationKey(key.key, key.algorithms, kid)
    if algorithm not in key.algorithms:
        raise KeyRefused(f"alg {algorithm!r} does not fit the key")
    return VerificationKey(key.key, frozenset({str(algorithm)}), kid)


def _bind(key: object) -> tuple[PublicKey, frozenset[str]]:
    match key:
        case RSAPublicKey():
            if key.key_size < MIN_RSA_BITS:
                raise KeyRefused(f"RSA {key.key_size} bits; at least {MIN_RSA_BITS}")
            return key, _RSA
        case EllipticCurvePublicKey() if key.curve.name in _EC:
            return key, frozenset({_EC[key.curve.name]})
        case Ed25519PublicKey():
            return key, frozenset({"EdDSA"})
        case _:
            pass
    raise KeyRefused("use RSA, EC P-256, P-384, P-521 or Ed25519")
