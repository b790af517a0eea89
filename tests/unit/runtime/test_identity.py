"""Keys that can't be trusted are refused with the reason; blacklist rules."""

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from runtime.clock import FakeClock
from runtime.identity.blacklist import is_revoked
from runtime.identity.jwks import FetchedKeys
from runtime.identity.keys import (
    KeyRefused,
    KeySet,
    from_jwks,
    from_pem,
    from_secret,
)
from runtime.identity.settings import IdentitySettings
from runtime.identity.tokens import Checks, Claims, verify
from runtime.metrics import Metrics
from runtime.settings import SettingsError
from tests.builders import NOW, SECRET, a_token, claims

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def pem(private: Any) -> bytes:
    return bytes(
        private.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
    )


def jwk(private: object, **members: object) -> dict[str, Any]:
    match private:
        case rsa.RSAPrivateKey():
            return {
                **RSAAlgorithm.to_jwk(private.public_key(), as_dict=True),
                **members,
            }
        case ec.EllipticCurvePrivateKey():
            return {**ECAlgorithm.to_jwk(private.public_key(), as_dict=True), **members}
        case ed25519.Ed25519PrivateKey():
            return {
                **OKPAlgorithm.to_jwk(private.public_key(), as_dict=True),
                **members,
            }
        case _:
            raise TypeError(type(private))


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(KeyRefused, match="31 bytes; give at least 32"):
        from_secret(b"x" * 31)


def test_a_secret_serves_only_the_hashes_that_it_is_long_enough_for() -> None:
    assert from_secret(b"x" * 32).algorithms == {"HS256"}
    assert from_secret(b"x" * 64).algorithms == {"HS256", "HS384", "HS512"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"nonsense", "not a PEM public key", id="not PEM"),
        pytest.param(
            pem(rsa.generate_private_key(65537, 1024)),  # noqa: S505 - to be refused
            "RSA 1024 bits",
            id="short RSA",
        ),
        pytest.param(
            pem(ec.generate_private_key(ec.SECP256K1())), "use RSA, EC", id="curve"
        ),
        pytest.param(pem(dsa.generate_private_key(2048)), "use RSA, EC", id="DSA"),
    ],
)
def test_a_pem_key_that_is_weak_or_strange_is_refused(
    content: bytes, expected: str
) -> None:
    with pytest.raises(KeyRefused, match=expected):
        from_pem(content)


def test_good_keys_of_a_set_are_used_and_bad_ones_named() -> None:
    document = {
        "keys": [
            jwk(RSA, kid="r", alg="RS256", use="sig"),
            jwk(EC, kid="e"),
            jwk(ED, kid="o"),
            jwk(EC, kid="e"),
            jwk(EC, kid="enc", use="enc"),
            jwk(EC, kid="wrong", alg="RS256"),
            {"kty": "oct", "k": "AAAA"},
            {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
            {**jwk(ED), "d": "AAAA"},
            {"kid": 5},
            "text",
        ]
    }

    keys, refused = from_jwks(json.dumps(document))

    assert [(key.kid, sorted(key.algorithms)) for key in keys] == [
        ("r", ["RS256"]),
        ("e", ["ES256"]),
        ("o", ["EdDSA"]),
    ]
    assert [reason.split(":")[0] for reason in refused] == [
        f"keys[{position}]" for position in range(3, 11)
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys":5}', "nonsense"])
def test_what_is_no_key_set_is_refused(text: str) -> None:
    with pytest.raises(KeyRefused):
        from_jwks(text)


def key_source(settings: IdentitySettings) -> FetchedKeys:
    return settings.key_source(FakeClock(NOW), Metrics())


def test_tokens_of_every_configured_key_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "rsa.pem").write_bytes(pem(RSA))
    (tmp_path / "ed.pem").write_bytes(pem(ED))
    (tmp_path / "jwks").write_text(json.dumps({"keys": [jwk(EC, kid="e"), {}]}))
    settings = IdentitySettings.from_environ(
        {
            "HUBGATE_JWT_SECRET_FILE": f"{tmp_path}/secret",
            "HUBGATE_JWT_PEM_FILES": f"{tmp_path}/rsa.pem,{tmp_path}/ed.pem",
            "HUBGATE_JWKS_FILE": f"{tmp_path}/jwks",
        }
    )
    keys = key_source(settings).keys
    tokens = [
        a_token(),
        jwt.encode(claims(), RSA, "RS256"),
        jwt.encode(claims(), ED, "EdDSA"),
        jwt.encode(claims(), EC, "ES256", headers={"kid": "e"}),
    ]

    verdicts = [verify(token, keys, settings.checks(), NOW) for token in tokens]

    assert all(isinstance(verdict, Claims) for verdict in verdicts)


def test_every_refused_key_file_is_named(tmp_path: Path) -> None:
    for name in ("secret", "pem", "jwks"):
        (tmp_path / name).write_text("x")
    settings = IdentitySettings.from_environ(
        {
            "HUBGATE_JWT_SECRET_FILE": f"{tmp_path}/secret",
            "HUBGATE_JWT_PEM_FILES": f"{tmp_path}/pem",
            "HUBGATE_JWKS_FILE": f"{tmp_path}/jwks",
        }
    )

    with pytest.raises(SettingsError) as caught:
        key_source(settings)

    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "HUBGATE_JWT_SECRET_FILE",
        "HUBGATE_JWT_PEM_FILES",
        "HUBGATE_JWKS_FILE",
    ]


def test_without_any_key_nothing_starts() -> None:
    with pytest.raises(SettingsError, match="HUBGATE_JWT_SECRET_FILE"):
        key_source(IdentitySettings.from_environ({}))


def issuers(tmp_path: Path, text: str) -> IdentitySettings:
    (tmp_path / "issuers.yaml").write_text(text)
    return IdentitySettings.from_environ(
        {"HUBGATE_JWT_ISSUERS_FILE": f"{tmp_path}/issuers.yaml"}
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"iss": "a"}, "ok"),
        ({"iss": "b", "aud": "hub"}, "ok"),
        ({"iss": "b", "aud": "other"}, "audience"),
        ({"iss": "c"}, "issuer"),
    ],
)
def test_issuers_that_share_a_key_are_believed_each_for_itself(
    tmp_path: Path, said: dict[str, str], expected: str
) -> None:
    """As the tenants of one identity provider do."""
    (tmp_path / "shared.pem").write_bytes(pem(RSA))
    settings = issuers(
        tmp_path,
        """
        - {issuer: a, pem_files: [shared.pem]}
        - {issuer: b, audience: hub, pem_files: [shared.pem]}
        """,
    )
    token = jwt.encode(claims(**said), RSA, "RS256")
    outcome = verify(token, key_source(settings).keys, settings.checks(), NOW)

    assert ("ok" if isinstance(outcome, Claims) else outcome.reason) == expected


def test_a_key_verifies_tokens_of_its_own_issuer_alone(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_bytes(pem(RSA))
    (tmp_path / "b.jwks").write_text(json.dumps({"keys": [jwk(ED, kid="k")]}))
    (tmp_path / "secret").write_bytes(SECRET)
    settings = issuers(
        tmp_path,
        """
        - {issuer: a, audience: hub, pem_files: [a.pem]}
        - {issuer: b, jwks_file: b.jwks}
        - {issuer: c, secret_file: secret}
        """,
    )
    keys = key_source(settings).keys
    reasons = {}
    for issuer in ("a", "b", "c", None):
        body = claims(aud="hub", **({} if issuer is None else {"iss": issuer}))
        tokens = {
            "a": jwt.encode(body, RSA, "RS256"),
            "b": jwt.encode(body, ED, "EdDSA", headers={"kid": "k"}),
            "c": jwt.encode(body, SECRET, "HS256"),
        }
        for key, token in tokens.items():
            outcome = verify(token, keys, settings.checks(), NOW)
            good = isinstance(outcome, Claims)
            reasons[issuer, key] = "ok" if good else getattr(outcome, "reason", "")
    wrong = jwt.encode(claims(iss="a", aud="other"), RSA, "RS256")
    outcome = verify(wrong, keys, settings.checks(), NOW)

    assert {pair for pair, reason in reasons.items() if reason == "ok"} == {
        ("a", "a"),
        ("b", "b"),
        ("c", "c"),
    }
    assert set(reasons.values()) == {"ok", "issuer"}
    assert getattr(outcome, "reason", "") == "audience"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "list: Input should be a valid list"),
        ("[]", "at least 1 item"),
        ("- {issuer: a}", "give exactly one of jwks_url, jwks_file"),
        ("- {issuer: a, pem_files: [x], secret_file: y}", "give exactly one of"),
        ("- {issuer: a, keys: x}", "0.keys: Extra inputs"),
        ("- {issuer: 5, secret_file: y}", "0.issuer: Input should be a valid string"),
        ("- {issuer: a, jwks_url: 'http://other/x'}", "give an https:// URL"),
        ("- {issuer: a, secret_file: missing}", "No such file"),
        ("- {issuer: a, secret_file: short}", "give at least 32"),
        ("- {issuer: a, pem_files: [issuers.yaml]}", "not a PEM public key"),
        ("- {issuer: a, jwks_file: issuers.yaml}", "not a JWK Set"),
        (
            "[{issuer: a, secret_file: y}, {issuer: a, secret_file: y}]",
            "issuer given twice: a",
        ),
        ("{", "not readable as YAML"),
    ],
)
def test_a_bad_list_of_issuers_is_told(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "short").write_text("x")

    with pytest.raises(SettingsError, match="HUBGATE_JWT_ISSUERS_FILE") as caught:
        key_source(issuers(tmp_path, text))

    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://keys.example/jwks",
        "http://127.0.0.1.example/jwks",
        "http://10.0.0.1/jwks",
        "ftp://keys.example/jwks",
        "file:///etc/passwd",
        "https://user:pass@keys.example/jwks",
        "https:///jwks",
        "keys.example/jwks",
    ],
)
def test_keys_never_travel_in_the_clear(url: str) -> None:
    with pytest.raises(SettingsError, match="HUBGATE_JWKS_URL"):
        IdentitySettings.from_environ({"HUBGATE_JWKS_URL": url})


@pytest.mark.parametrize(
    "url",
    ["https://keys.example/jwks", "http://127.0.0.1:1/x", "http://[::1]/x"],
)
def test_an_encrypted_or_local_source_is_taken(url: str) -> None:
    settings = IdentitySettings.from_environ({"HUBGATE_JWKS_URL": url})

    assert not key_source(settings).is_complete


def test_a_key_never_shows_itself() -> None:
    assert "secret" not in repr(KeySet((from_secret(SECRET),)))


@pytest.mark.parametrize(
    ("iat", "cutoff", "expected"),
    [
        pytest.param(100.0, None, False, id="no cutoff"),
        pytest.param(100.0, b"100.5", True, id="issued before"),
        pytest.param(101.0, b"100.5", False, id="issued after"),
        pytest.param(None, b"100", True, id="no iat"),
        pytest.param(100.0, b"soon", True, id="unreadable cutoff"),
        pytest.param(100.0, b"nan", True, id="cutoff is not a number"),
        pytest.param(100.0, b"1", True, id="a mark, as a token has"),
        pytest.param(100.0, b"0", True, id="whatever it says"),
        pytest.param(100.0, b"-inf", True, id="before all time"),
    ],
)
def test_a_users_cutoff_revokes_what_was_issued_before_it(
    iat: float | None, cutoff: bytes | None, expected: object
) -> None:
    held = Claims("u", "user", NOW, iat, "t")

    assert is_revoked(held, by_id=False, user_cutoff=cutoff) is expected


def test_checks_come_from_the_environment() -> None:
    settings = IdentitySettings.from_environ(
        {
            "HUBGATE_JWT_ISSUER": "hub",
            "HUBGATE_JWT_AUDIENCE": "api",
            "HUBGATE_JWT_LEEWAY_S": "5",
        }
    )

    assert settings.checks() == Checks("hub", "api", 5.0)
