"""ext_authz on the wire: CheckRequest -> AccessRequest, Decision -> CheckResponse.

Envoy: envoy.service.auth.v3.Authorization. Whatever fails is answered as a denial.
"""

from typing import Any

from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.auth.v3 import external_auth_pb2 as pb
from envoy.type.v3.http_status_pb2 import HttpStatus
from google.rpc.code_pb2 import OK, PERMISSION_DENIED

from authz.audit import MAX_PATH_CHARACTERS, Attempt, Audit
from authz.authorizer import AccessRequest, Authorizer
from authz.decision import Allow, Decision, Deny, Policy, PolicyMissing, deny
from authz.journal import Journal, start_of
from authz.limits import Asking, Limiter, Ruling
from runtime.answers import error_body, limited_body
from runtime.contracts import (
    CONTEXT_SERVICE,
    HEADER_AUTHORIZATION,
    HEADER_CLIENT_ADDRESS,
    HEADER_REQUEST_ID,
    HEADER_USER_ID,
    HEADER_USER_ROLE,
    HEADER_WEBSOCKET_PROTOCOL,
    LABEL_INCARNATION,
    LABEL_NODE,
    METADATA_COUNTERS,
    METADATA_EXPIRES_AT,
    METADATA_ISSUED_AT,
    METADATA_REASON,
    METADATA_ROLE,
    METADATA_TOKEN_ID,
    METADATA_USER_ID,
    AuthPolicy,
    ErrorCode,
    LimitScope,
)
from runtime.grpc_server import Unary
from runtime.identity.tokens import Claims
from runtime.logs import get_logger
from runtime.metrics import Metrics

log = get_logger(__name__)

_TOO_MANY = 429

PATH = "/envoy.service.auth.v3.Authorization/Check"

#: RFC 6750 §3: no error code when the request carried no credential at all.
_CHALLENGES = {
    ErrorCode.TOKEN_MISSING: 'Bearer realm="hubgate"',
    ErrorCode.TOKEN_INVALID: 'Bearer realm="hubgate", error="invalid_token"',
    ErrorCode.TOKEN_EXPIRED: (
        'Bearer realm="hubgate", error="invalid_token", '
        'error_description="The token has expired"'
    ),
    ErrorCode.TOKEN_REVOKED: (
        'Bearer realm="hubgate", error="invalid_token", '
        'error_description="The token has been revoked"'
    ),
}

#: Where nothing can be read of a route's policy.
_UNREADABLE = Policy("", AuthPolicy.REQUIRED)


class AuthzService:
    """The adapter between Envoy and the authorizer."""

    def __init__(
        self,
        authorizer: Authorizer,
        metrics: Metrics,
        audit: Audit,
        journal: Journal | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        self._authorizer = authorizer
        self._metrics = metrics
        self._audit = audit
        self._journal = journal
        self._limiter = limiter

    def methods(self) -> list[Unary]:
        return [
            Unary(
                PATH,
                pb.CheckRequest.FromString,
                pb.CheckResponse.SerializeToString,
                self.check,
            )
        ]

    async def check(self, request: Any) -> Any:  # protobuf messages have no stubs
        """Answer one CheckRequest; never raises."""
        policy, decision = await self._decide(request)
        attempt = _attempt(request, decision, policy.route)
        ruling = None
        if isinstance(decision, Allow) and policy.limits is not None:
            ruling = await self._rule(attempt, policy.limits)
        self._record(attempt)
        passes = isinstance(decision, Allow) and (ruling is None or ruling.admitted)
        if self._journal is not None and passes:
            self._journal.record(_admission(request, attempt))
        response = _write(decision, ruling, attempt.request_id)
        if policy.is_session and decision.claims is not None:
            _tell_session(response, decision.claims)
        return response

    async def _decide(self, request: Any) -> tuple[Policy, Decision]:
        policy = _UNREADABLE
        try:
            access = _read(request)
            policy = access.policy
            decision = await self._authorizer.decide(access)
        except PolicyMissing:
            log.exception("request without a route policy denied")
            decision = deny(ErrorCode.FORBIDDEN, "policy_missing")
        except Exception:  # the trust edge: no exception may let a request pass
            log.exception("decision failed; denied")
            decision = deny(ErrorCode.AUTH_UNAVAILABLE, "internal_error")
        if policy.limits is not None and self._limiter is None:
            # Nobody else will ask: Envoy was told that one call answers both.
            log.error("no limiter in this process: run `python -m sidecar`")
            decision = deny(ErrorCode.AUTH_UNAVAILABLE, "limiter_missing")
        return policy, decision

    async def _rule(self, attempt: Attempt, scope: LimitScope) -> Ruling | None:
        """Fail-open, as Envoy does when it asks `ratelimit` and gets no answer."""
        asking = Asking(
            role=attempt.role,
            user=attempt.user or "",
            address=attempt.address,
            route=attempt.route,
            tells_tokens=scope is LimitScope.TOKENS,
        )
        try:
            return await self._limiter.rule(asking) if self._limiter else None
        except Exception:
            log.exception("limiter failed; not limited")
            self._metrics.inc("hubgate_authz_limiter_failures_total")
            return None

    def _record(self, attempt: Attempt) -> None:
        self._metrics.inc(
            "hubgate_authz_decisions_total",
            verdict=attempt.verdict,
            reason=attempt.reason,
        )
        self._audit.record(attempt)


def _attempt(request: Any, decision: Decision, route: str) -> Attempt:
    http = request.attributes.request.http
    peer = request.attributes.source.address.socket_address.address
    return Attempt(
        verdict="allow" if isinstance(decision, Allow) else "deny",
        reason=decision.reason,
        user=decision.user_id,
        role=decision.role,
        token_id=decision.claims.jti if decision.claims else None,
        route=route,
        method=http.method,
        path=http.path.partition("?")[0][:MAX_PATH_CHARACTERS],
        address=http.headers.get(HEADER_CLIENT_ADDRESS, peer),
        request_id=http.headers.get(HEADER_REQUEST_ID),
    )


def _admission(request: Any, attempt: Attempt) -> dict[str, str]:
    """The request as the journal keeps it: contracts.ADMISSION_FIELDS."""
    attributes = request.attributes
    labels = attributes.destination.labels
    return {
        "id": attempt.request_id or "",
        "start": start_of(attributes.request.time),
        "node": labels.get(LABEL_NODE, ""),
        "incarnation": labels.get(LABEL_INCARNATION, ""),
        "route": attempt.route,
        "service": attributes.context_extensions.get(CONTEXT_SERVICE, ""),
        "method": attempt.method,
        "path": attempt.path,
        "user_id": attempt.user or "",
        "role": attempt.role,
        "reason": attempt.reason,
    }


def _read(request: Any) -> AccessRequest:
    attributes = request.attributes
    headers = attributes.request.http.headers
    return AccessRequest(
        policy=Policy.from_context(attributes.context_extensions),
        path=attributes.request.http.path,
        authorization=headers.get(HEADER_AUTHORIZATION),
        websocket_protocol=headers.get(HEADER_WEBSOCKET_PROTOCOL),
    )


def _write(decision: Decision, ruling: Ruling | None, request_id: str | None) -> Any:
    response = pb.CheckResponse()
    metadata = response.dynamic_metadata
    metadata[METADATA_ROLE] = decision.role
    metadata[METADATA_REASON] = decision.reason
    if decision.user_id is not None:
        metadata[METADATA_USER_ID] = decision.user_id
    if ruling is not None:
        metadata[METADATA_COUNTERS] = ruling.counters
    match decision:
        case Allow() if ruling is not None and not ruling.admitted:
            denied = _deny(response, _TOO_MANY, limited_body(request_id))
            denied.headers.extend(_headers(ruling))
        case Allow():
            response.status.code = OK
            response.ok_response.headers.extend(_identity(decision))
            if ruling is not None:
                response.ok_response.response_headers_to_add.extend(_headers(ruling))
        case Deny():
            body = error_body(decision.code, decision.message, request_id)
            denied = _deny(response, decision.status, body)
            if challenge := _CHALLENGES.get(decision.code):
                denied.headers.append(_header("www-authenticate", challenge))
    return response


def _deny(response: Any, status: int, body: bytes) -> Any:
    response.status.code = PERMISSION_DENIED
    denied = response.denied_response
    denied.status.CopyFrom(HttpStatus(code=status))
    denied.body = body
    denied.headers.append(_header("content-type", "application/json"))
    return denied


def _headers(ruling: Ruling) -> list[Any]:
    # Added to what an upstream may say of limits of its own, as `ratelimit` does it.
    return [
        HeaderValueOption(header=HeaderValue(key=name, value=value))
        for name, value in ruling.headers.items()
    ]


def _tell_session(response: Any, claims: Claims) -> None:
    """What ext_proc must know to end the connection with the token."""
    metadata = response.dynamic_metadata
    metadata[METADATA_EXPIRES_AT] = claims.exp
    if claims.iat is not None:
        metadata[METADATA_ISSUED_AT] = claims.iat
    if claims.jti is not None:
        metadata[METADATA_TOKEN_ID] = claims.jti


def _identity(allow: Allow) -> list[Any]:
    if allow.user_id is None:
        return [_header(HEADER_USER_ROLE, allow.role)]
    return [
        _header(HEADER_USER_ID, allow.user_id),
        _header(HEADER_USER_ROLE, allow.role),
    ]


def _header(name: str, value: str) -> Any:
    # Overwriting, so that nothing a client sent stands beside it.
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value),
        append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )
