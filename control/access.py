"""Who may use the control API, and whose usage a caller may see."""

import hmac
from dataclasses import dataclass

from control.errors import ApiError
from runtime.contracts import ROLE_ADMIN, ErrorCode
from runtime.identity.blacklist import Blacklist, BlacklistUnavailable
from runtime.identity.tokens import Rejected
from runtime.identity.verifier import Verifier

_SCHEME = "bearer "

_MESSAGES = {
    ErrorCode.AUTH_UNAVAILABLE: "The token can't be checked now, try again later",
    ErrorCode.TOKEN_EXPIRED: "The token has expired",
    ErrorCode.TOKEN_INVALID: "The token is not valid",
    ErrorCode.TOKEN_REVOKED: "The token was revoked",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks; `user_id` is None for who has the admin token, which is no user's."""

    user_id: str | None
    role: str

    @property
    def is_admin(self) -> bool:
        return self.role == ROLE_ADMIN


class Access:
    """Checks the `Authorization` header; trusts no other."""

    def __init__(
        self,
        admin_token: str,
        verifier: Verifier,
        blacklist: Blacklist,
        usable_after_exp_s: float = 30.0,
    ) -> None:
        self._admin_token = admin_token.encode()
        self._verifier = verifier
        #: After its `exp` a token may be of use for so long, on some route.
        self.usable_after_exp_s = usable_after_exp_s
        self._blacklist = blacklist

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
            return Caller(None, ROLE_ADMIN)
        claims = await self._verifier.verify(token)
        if isinstance(claims, Rejected):
            raise _unauthorised(claims.code)
        try:
            is_revoked = await self._blacklist.is_revoked(claims)
        except BlacklistUnavailable:
            raise _unauthorised(ErrorCode.AUTH_UNAVAILABLE) from None
        if is_revoked:
            raise _unauthorised(ErrorCode.TOKEN_REVOKED)
        return Caller(claims.sub, claims.role)

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
    status = 503 if code is ErrorCode.AUTH_UNAVAILABLE else 401
    return ApiError(status, code, _MESSAGES[code])
