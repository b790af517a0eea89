"""Finds out what the rule needs to know, and applies it."""

from enum import StrEnum

from authz import credentials, paths
from authz.credentials import Bearer, Malformed, Missing
from authz.decision import (
    GUEST,
    Decision,
    Policy,
    deny,
    with_token,
    without_token,
)
from runtime.contracts import AuthPolicy, ErrorCode
from runtime.identity.blacklist import Blacklist, BlacklistUnavailable
from runtime.identity.tokens import Claims, Rejected
from runtime.identity.verifier import Verifier
from runtime.metrics import Metrics
from runtime.values import value


class OnRedisDown(StrEnum):
    """What a genuine token is worth while nobody can say whether it is revoked."""

    DENY = "deny"
    ALLOW = "allow"


@value
class AccessRequest:
    """What Envoy says about a request; `None` = the header is absent."""

    policy: Policy
    path: str
    authorization: str | None = None
    websocket_protocol: str | None = None


class Authorizer:
    """One per process; holds no state of its own."""

    def __init__(
        self,
        *,
        verifier: Verifier,
        blacklist: Blacklist,
        on_redis_down: OnRedisDown,
        metrics: Metrics,
        allow_expired_s: float = 0.0,
    ) -> None:
        self._verifier = verifier
        self._allow_expired_s = allow_expired_s
        self._blacklist = blacklist
        self._on_redis_down = on_redis_down
        self._metrics = metrics

    async def decide(self, request: AccessRequest) -> Decision:
        policy = request.policy
        if ambiguity := paths.refusal(request.path):
            return deny(ErrorCode.BAD_REQUEST, ambiguity)
        if policy.auth is AuthPolicy.NONE:
            return GUEST
        found = credentials.find(request.authorization, request.websocket_protocol)
        match found:
            case Bearer():
                return await self._decide_token(policy, found.token)
            case Missing():
                return without_token(policy)
            case Malformed():
                return deny(ErrorCode.TOKEN_INVALID, found.reason)

    async def _decide_token(self, policy: Policy, token: str) -> Decision:
        expired_too = policy.auth is AuthPolicy.ALLOW_EXPIRED
        expired_s = self._allow_expired_s if expired_too else 0.0
        verified: Claims | Rejected | None
        verified = self._verifier.known(token, expired_s=expired_s)
        if verified is None:
            verified = await self._verifier.verify_anew(token, expired_s=expired_s)
        if isinstance(verified, Rejected):
            return with_token(policy, verified, revoked=False)
        try:
            revoked = await self._blacklist.is_revoked(verified)
        except BlacklistUnavailable:
            self._metrics.inc(
                "hubgate_authz_store_failures_total", action=self._on_redis_down
            )
            if self._on_redis_down is OnRedisDown.DENY:
                return deny(ErrorCode.AUTH_UNAVAILABLE, "blacklist_unavailable")
            revoked = False
        return with_token(policy, verified, revoked=revoked)
