"""Access and refresh tokens of the demo: signing and reading, no storage.

The gateway asks for `sub`, `role` and `exp`. A refresh token has no role, so the
gateway refuses it; it has `typ`, which an access token lacks, so that neither passes
for the other here.
"""

import uuid
from dataclasses import dataclass
from typing import Any, Final

import jwt

from local.demo.accounts import Account

ACCESS_TTL_S: Final = 15 * 60
REFRESH_TTL_S: Final = 7 * 24 * 3600
ALGORITHM: Final = "HS256"
_REFRESH: Final = "refresh"
_MAX_TOKEN_LENGTH: Final = 4096


@dataclass(frozen=True, slots=True)
class Signer:
    """The key, and the names that the gateway may be set to ask for."""

    key: bytes
    issuer: str | None = None
    audience: str | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """What is left of a token once it is verified."""

    jti: str
    sub: str
    exp: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Both tokens, as a login answers with them."""

    access: str
    refresh: str


def issue(signer: Signer, account: Account, now: float) -> Pair:
    """A new pair; each token has its own `jti`."""
    access = {"sub": account.id, "role": account.role}
    refresh = {"sub": account.id, "typ": _REFRESH}
    return Pair(
        access=_sign(signer, access, now, ACCESS_TTL_S),
        refresh=_sign(signer, refresh, now, REFRESH_TTL_S),
    )


def read_access(signer: Signer, token: str, now: float) -> Ticket | None:
    """The ticket, or None: bad signature, expired, or not an access token."""
    claims = _verify(signer, token, now)
    if claims is None or "typ" in claims or "role" not in claims:
        return None
    return _ticket(claims)


def read_refresh(signer: Signer, token: str, now: float) -> Ticket | None:
    """The ticket, or None: bad signature, expired, or not a refresh token."""
    claims = _verify(signer, token, now)
    if claims is None or claims.get("typ") != _REFRESH:
        return None
    return _ticket(claims)


def _sign(signer: Signer, claims: dict[str, Any], now: float, ttl_s: int) -> str:
    issued = int(now)
    claims = {**claims, "iat": issued, "exp": issued + ttl_s, "jti": str(uuid.uuid4())}
    if signer.issuer is not None:
        claims["iss"] = signer.issuer
    if signer.audience is not None:
        claims["aud"] = signer.audience
    return jwt.encode(claims, signer.key, algorithm=ALGORITHM)


def _verify(signer: Signer, token: str, now: float) -> dict[str, Any] | None:
    if len(token) > _MAX_TOKEN_LENGTH:
        return None
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            signer.key,
            algorithms=[ALGORITHM],
            issuer=signer.issuer,
            audience=signer.audience,
            # Expiry is checked below against our own clock.
            options={
                "require": ["sub", "exp", "jti"],
                "verify_exp": False,
                "verify_iat": False,
            },
        )
    except (jwt.PyJWTError, ValueError):
        return None
    exp = claims["exp"]
    return claims if isinstance(exp, int) and now < exp else None


def _ticket(claims: dict[str, Any]) -> Ticket:
    return Ticket(jti=claims["jti"], sub=claims["sub"], exp=claims["exp"])
