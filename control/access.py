"""Who may use the control API, and whose usage a caller may see."""

import hmac
from dataclasses import dataclass

from control.errors import ApiError
from runtime.clock import Clock
from runtime.contracts import ROLE_ADMIN, ErrorCode
from runtime.identity.blacklist import Blacklist, BlacklistUnavailable
from runtime.identity.keys import KeySet
from runtime.identity.tokens import Checks, Rejected, verify

_SCHEME = "bearer "

_MESSAGES = {
    ErrorCode.TOKEN_EXPIRED: "The token has expired",
    ErrorCode.TOKEN_INVALID: "The token is not valid",
    ErrorCode.TOKEN_REVOKED: "The token was revoked",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose rows may be read: those of `user_id`, or all when it is None."""

    user_id: str | None


class Access:
    """Checks the `Authorization` header; trusts no other."""

    def __init__(
        self,
        admin_token: str,
        keys: KeySet,
        checks: Checks,
        blacklist: Blacklist,
        clock: Clock,
    ) -> None:
        self._admin_token = admin_token.encode()
        self._keys = keys
        self._checks = checks
        self.leeway_s = checks.leeway_s
        self._blacklist = blacklist
        self._clock = clock

    def require_admin(self, authorization: str | None) -> None:
        """Raises ApiError 401: it is not the admin token."""
        if not self._is_admin(_bearer(authorization)):
            raise _unauthorised(ErrorCode.TOKEN_INVALID)

    async def caller(self, authorization: str | None) -> Caller:
        """Who asks.

        Raises:
            ApiError: 401, or 503 when nobody can tell whether the token was revoked.
        """
        token = _bearer(authorization)
        if self._is_admin(token):
            return Caller(None)
        claims = verify(token, self._keys, self._checks, self._clock.now())
        if isinstance(claims, Rejected):
            raise _unauthorised(claims.code)
        try:
            is_revoked = await self._blacklist.is_revoked(claims)
        except BlacklistUnavailable:
            raise ApiError(
                503,
                ErrorCode.AUTH_UNAVAILABLE,
                "The token can't be checked now, try again later",
            ) from None
        if is_revoked:
            raise _unauthorised(ErrorCode.TOKEN_REVOKED)
        return Caller(None if claims.role == ROLE_ADMIN else claims.sub)

    def _is_admin(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._admin_token)


def _bearer(authorization: str | None) -> str:
    if authorization is None or not authorization.strip():
        raise ApiError(
            401, ErrorCode.TOKEN_MISSING, "Give a token: Authorization: Bearer …"
        )
    if authorization[: len(_SCHEME)].lower() != _SCHEME:
        raise _unauthorised(ErrorCode.TOKEN_INVALID)
    return authorization[len(_SCHEME) :].strip()


def _unauthorised(code: ErrorCode) -> ApiError:
    return ApiError(401, code, _MESSAGES[code])
