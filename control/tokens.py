"""Tokens for people who run the gateway: issuing them, and reading one to revoke it."""

import math
import uuid
from dataclasses import dataclass
from typing import Any

import jwt

from control.errors import invalid
from control.parse import Problem
from runtime.contracts.redis_keys import blacklist_user_key
from runtime.identity.tokens import Checks

ALGORITHM = "HS256"
DEFAULT_TTL_S = 3600
MAX_TTL_S = 366 * 86400
MAX_TOKEN_CHARACTERS = 8192
#: Redis takes no end of time; no token that lives longer is older than this line.
MOST_TTL_S = 100 * MAX_TTL_S

_USER_PREFIX = blacklist_user_key("").removeprefix("bl:")
_MAX_NAME = 256


@dataclass(frozen=True, slots=True)
class Issued:
    """A token and what is in it."""

    token: str
    jti: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """Signs with the installation's own HMAC key."""

    key: bytes
    checks: Checks

    def issue(self, user: str, role: str, now: float, ttl_s: int) -> Issued:
        jti, issued_at = str(uuid.uuid4()), int(now)
        claims: dict[str, Any] = {
            "sub": user,
            "role": role,
            "jti": jti,
            "iat": issued_at,
            "exp": issued_at + ttl_s,
        }
        if self.checks.issuer is not None:
            claims["iss"] = self.checks.issuer
        if self.checks.audience is not None:
            claims["aud"] = self.checks.audience
        token = jwt.encode(claims, self.key, algorithm=ALGORITHM)
        return Issued(token, jti, issued_at + ttl_s)


@dataclass(frozen=True, slots=True)
class TokenToRevoke:
    """Its id, and for how long the revocation must last."""

    jti: str
    ttl_s: int


def read_for_revocation(
    token: str, after_exp_s: float, now: float, unknown_s: int
) -> TokenToRevoke:
    """What a token says of itself, unverified: to revoke needs no trust.

    For as long as it may be of use; `unknown_s` if it does not say.

    Raises:
        ApiError: 422, no token, or one without `jti`.
    """
    try:
        claims = jwt.decode(
            token[:MAX_TOKEN_CHARACTERS], options={"verify_signature": False}
        )
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise invalid(Problem("token", "this is no JWT; give it whole")) from None
    jti, expiry = claims.get("jti"), _expiry(claims.get("exp"))
    if not isinstance(jti, str) or not jti:
        raise invalid(
            Problem("token", "it has no jti; revoke all tokens of its user instead")
        )
    if expiry is None:
        return TokenToRevoke(token_id(jti, "token"), unknown_s)
    left = min(max(expiry + after_exp_s - now, 1), MOST_TTL_S)
    return TokenToRevoke(token_id(jti, "token"), math.ceil(left))


def _expiry(value: object) -> float | None:
    """None: no time that a genuine token could say."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def token_id(jti: object, field: str = "jti") -> str:
    """A `jti` whose key can't be taken for the cutoff of a user.

    Raises:
        ApiError: 422, it can.
    """
    text = name(jti, field)
    if text.startswith(_USER_PREFIX):
        raise invalid(Problem(field, f"a jti can't start with {_USER_PREFIX!r}"))
    return text


def name(value: object, field: str) -> str:
    """Raises ApiError: 422, not a visible text."""
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= _MAX_NAME
        or not value.isprintable()
        or value != value.strip()
    ):
        raise invalid(Problem(field, f"give 1 to {_MAX_NAME} visible characters"))
    return value
