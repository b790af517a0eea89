"""The rule: a route's policy and what is known of the caller make a decision."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from runtime.contracts import (
    CONTEXT_AUTH,
    CONTEXT_LIMITS,
    CONTEXT_POLICY,
    CONTEXT_ROLES,
    CONTEXT_ROUTE,
    CONTEXT_SERVICE,
    CONTEXT_SESSION,
    ROLE_GUEST,
    AuthPolicy,
    ErrorCode,
    LimitScope,
)
from runtime.identity.tokens import Claims, Rejected
from runtime.values import value


class PolicyMissing(Exception):
    """The route's policy did not arrive with the request, or can't be read."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a route asks; `roles` empty = any role."""

    route: str
    auth: AuthPolicy
    roles: frozenset[str] = frozenset()
    #: Connections of this route may outlive the request.
    is_session: bool = False
    #: Which limits to ask for in the same call; None: none, or Envoy asks itself.
    limits: LimitScope | None = None
    #: Whose answers it gets; the journal tells it.
    service: str = ""

    @staticmethod
    def from_context(context: Mapping[str, str]) -> "Policy":
        """The policy as it travels in Envoy's context extensions.

        Raises:
            PolicyMissing: a request without a readable policy must not pass.
        """
        text = context.get(CONTEXT_POLICY)
        if text is None:  # an earlier version of control told each member by itself
            return _policy({name: context[name] for name in _MEMBERS & context.keys()})
        return _of_text(text)


_MEMBERS: Final = frozenset(
    (
        *(CONTEXT_ROUTE, CONTEXT_AUTH, CONTEXT_ROLES, CONTEXT_SERVICE),
        *(CONTEXT_SESSION, CONTEXT_LIMITS),
    )
)


@lru_cache(maxsize=20_000)
def _of_text(text: str) -> Policy:
    try:
        return _policy(json.loads(text))
    except ValueError as error:
        raise PolicyMissing(repr(error)) from error


def _policy(said: dict[str, str]) -> Policy:
    try:
        roles, limits = said.get(CONTEXT_ROLES, ""), said.get(CONTEXT_LIMITS)
        return Policy(
            said[CONTEXT_ROUTE],
            AuthPolicy(said[CONTEXT_AUTH]),
            frozenset(role for role in roles.split(",") if role),
            is_session=CONTEXT_SESSION in said,
            limits=None if limits is None else LimitScope(limits),
            service=said.get(CONTEXT_SERVICE, ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PolicyMissing(repr(error)) from error


@value
class Allow:
    """Passes, as this caller; a guest has no user id and no claims."""

    user_id: str | None
    role: str
    reason: str
    claims: Claims | None = field(default=None, compare=False)


@value
class Deny:
    """Does not pass; `status` is the HTTP status that the client sees."""

    code: ErrorCode
    status: int
    message: str
    reason: str
    user_id: str | None = None
    role: str = ROLE_GUEST
    claims: Claims | None = field(default=None, compare=False)


Decision = Allow | Deny

_MESSAGES = {
    ErrorCode.BAD_REQUEST: "The path can be read in more than one way",
    ErrorCode.TOKEN_MISSING: "Authentication is required: send a bearer token",
    ErrorCode.TOKEN_INVALID: "The token is not valid",
    ErrorCode.TOKEN_EXPIRED: "The token has expired",
    ErrorCode.TOKEN_REVOKED: "The token has been revoked",
    ErrorCode.FORBIDDEN: "Your role may not use this resource",
    ErrorCode.AUTH_UNAVAILABLE: "Authorization can't be checked now, try again later",
}
_STATUS = {
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.AUTH_UNAVAILABLE: 503,
}

#: Where a caller without a credential passes, as a guest.
_OPEN = frozenset({AuthPolicy.OPTIONAL, AuthPolicy.NONE})

GUEST = Allow(None, ROLE_GUEST, "guest")


def deny(code: ErrorCode, reason: str, claims: Claims | None = None) -> Deny:
    """A denial in the words that clients read."""
    return Deny(
        code,
        _STATUS.get(code, 401),
        _MESSAGES[code],
        reason,
        claims.sub if claims else None,
        claims.role if claims else ROLE_GUEST,
        claims,
    )


def without_token(policy: Policy) -> Decision:
    """What a caller without a credential gets."""
    if policy.auth not in _OPEN or policy.roles:
        return deny(ErrorCode.TOKEN_MISSING, "token_missing")
    return GUEST


def with_token(
    policy: Policy, verified: Claims | Rejected, *, revoked: bool
) -> Decision:
    """What a caller with a credential gets; a bad token is worse than none."""
    if isinstance(verified, Rejected):
        return deny(verified.code, verified.reason, verified.claims)
    if revoked:
        return deny(ErrorCode.TOKEN_REVOKED, "revoked", verified)
    if policy.roles and verified.role not in policy.roles:
        return deny(ErrorCode.FORBIDDEN, "role", verified)
    return Allow(verified.sub, verified.role, "token", verified)
