"""Is this token genuine and in force? RFC 7515, 7519 and 8725; deny on doubt.

Rules, in the order they are applied:

1. JWS compact form only: three segments of strict base64url, at most 8 KB in all.
2. Header and payload are one JSON object each, read in exactly one way.
3. The algorithm must be one that a configured key is bound to; `none` is bound to no
   key. `crit` and `b64` are refused: this verifier implements no extension.
   `jwk`, `jku`, `x5u`, `x5c` are never looked at.
4. The signature must verify before any claim means anything.
5. Claims are checked by us, not by the library: a library's exception must not turn
   into an answer (a signed `exp: null` raises TypeError in some).
"""

import base64
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from jwt.algorithms import get_default_algorithms

from runtime.contracts import ErrorCode
from runtime.identity import strict_json
from runtime.identity.keys import (
    PUBLIC_KEY_ALGORITHMS,
    KeySet,
    Party,
    VerificationKey,
)
from runtime.values import value

MAX_TOKEN_BYTES = 8192
MAX_NAME_CHARACTERS = 256

#: No key of ours may verify such a token.
NO_KEY: Final = "no_key_for_token"
#: No key that is known may verify it; a key that is published later might.
KEY_UNKNOWN: Final = "key_unknown"

_SEGMENT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
#: By how many are left over from groups of four: what a segment may end with (RFC 4648
#: §3.5). One character is less than a byte.
_LAST_OF: Final = {1: "", 2: "AQgw", 3: "AEIMQUYcgkosw048"}
_ALGORITHMS: Final[dict[str, Any]] = dict(get_default_algorithms())
_SEGMENTS = 3
#: They change what the other members mean (RFC 7515 §4.1.11, 7797; 7516 for JWE).
_EXTENSIONS = frozenset({"crit", "b64", "enc", "zip"})


@value
class Claims:
    """What a genuine token says; times are Unix seconds."""

    sub: str
    role: str
    exp: float
    iat: float | None = None
    jti: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a token counts for nothing; `reason` is for logs, `code` for clients."""

    code: ErrorCode
    reason: str
    #: Of a genuine token that is not in force any more: for the audit.
    claims: Claims | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Checks:
    """What else a token must satisfy; None = not checked."""

    issuer: str | None = None
    audience: str | None = None
    leeway_s: float = 30.0
    #: For so long after `exp` a token still counts; 0 but on `allow_expired` routes.
    expired_s: float = 0.0


class _Invalid(Exception):
    """Carries the reason out of a nested check."""


def verify(token: str, keys: KeySet, checks: Checks, now: float) -> Claims | Rejected:
    """Decide at the instant `now` (Unix seconds); never raises."""
    try:
        return _verify(token, keys, checks, now)
    except _Invalid as error:
        return Rejected(ErrorCode.TOKEN_INVALID, str(error))
    except Exception as error:  # noqa: BLE001 - whatever a library raises is a denial
        return Rejected(ErrorCode.TOKEN_INVALID, f"unreadable:{type(error).__name__}")


def _verify(token: str, keys: KeySet, checks: Checks, now: float) -> Claims | Rejected:
    if len(token) > MAX_TOKEN_BYTES:
        raise _Invalid("too_large")
    segments = token.split(".")
    if len(segments) != _SEGMENTS:
        raise _Invalid("not_three_segments")
    header = _header(segments[0])
    signed = f"{segments[0]}.{segments[1]}".encode("ascii")
    refusal = "signature"
    # The key that verified says who must have issued it, never the token alone.
    for key in _signers(header, signed, _decode(segments[2], "signature"), keys):
        payload = _object(segments[1], "payload")
        party = key.party or Party(checks.issuer, checks.audience)
        wrong = _wrong_party(payload, party)
        if wrong is None:
            return _check_claims(payload, checks, now)
        # Issuers may share a key: it is the next one's, too.
        refusal = wrong
    raise _Invalid(refusal)


def _decode(segment: str, name: str) -> bytes:
    # The alphabet is checked here since Python's decoder skips what it doesn't know.
    if not _SEGMENT.fullmatch(segment):
        raise _Invalid(f"{name}_encoding")
    size = len(segment)
    # Unused low bits must be zero, or one token would have several spellings.
    if size % 4 and segment[-1] not in _LAST_OF[size % 4]:
        raise _Invalid(f"{name}_encoding")
    return base64.urlsafe_b64decode(segment + "=" * (-size % 4))


@lru_cache(maxsize=64)
def _header(segment: str) -> Mapping[str, Any]:
    """Kept by its exact text: an issuer's tokens begin alike, as a rule."""
    return MappingProxyType(_object(segment, "header"))


def _object(segment: str, name: str) -> dict[str, Any]:
    data = _decode(segment, name)
    try:
        return strict_json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _Invalid(f"{name}_json") from error


def _signers(
    header: Mapping[str, Any], signed: bytes, signature: bytes, keys: KeySet
) -> Iterator[VerificationKey]:
    """The keys that verify it: one as a rule."""
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise _Invalid("alg_missing")
    if kid is not None and not isinstance(kid, str):
        raise _Invalid("kid_not_text")
    if _EXTENSIONS & header.keys():
        raise _Invalid("header_extension")
    candidates = keys.candidates(algorithm, kid)
    if not candidates:
        raise _Invalid(KEY_UNKNOWN if algorithm in PUBLIC_KEY_ALGORITHMS else NO_KEY)
    verifier = _ALGORITHMS[algorithm]
    for one in candidates:
        if verifier.verify(signed, one.key, signature):
            yield one


def _check_claims(
    payload: dict[str, Any], checks: Checks, now: float
) -> Claims | Rejected:
    exp = _time(payload, "exp")
    if exp is None:
        raise _Invalid("exp_missing")
    claims = Claims(
        sub=_name(payload, "sub"),
        role=_name(payload, "role"),
        exp=exp,
        iat=_time(payload, "iat"),
        jti=_name(payload, "jti") if "jti" in payload else None,
    )
    not_before = max(_time(payload, "nbf") or -math.inf, claims.iat or -math.inf)
    if now + checks.leeway_s < not_before:
        raise _Invalid("not_yet_valid")
    if now >= exp + checks.leeway_s + checks.expired_s:
        return Rejected(ErrorCode.TOKEN_EXPIRED, "expired", claims)
    return claims


def _wrong_party(payload: dict[str, Any], party: Party) -> str | None:
    """Why it is no token of theirs, or not for them."""
    if party.issuer is not None and payload.get("iss") != party.issuer:
        return "issuer"
    if party.audience is not None:
        audience = payload.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if party.audience not in named:
            return "audience"
    return None


def _time(payload: dict[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 §2): a finite number; a boolean is not one."""
    if name not in payload:
        return None
    value = payload[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Invalid(f"{name}_not_a_number")
    if not math.isfinite(value):
        raise _Invalid(f"{name}_not_finite")
    return float(value)


def _name(payload: dict[str, Any], name: str) -> str:
    """Visible text; no edge spaces, which a header would lose on its way."""
    value = payload.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_CHARACTERS:
        raise _Invalid(f"{name}_not_text")
    if not value.isprintable() or value != value.strip():
        raise _Invalid(f"{name}_not_visible")
    return value
