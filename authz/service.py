"""ext_authz on the wire: CheckRequest -> AccessRequest, Decision -> CheckResponse.

Envoy: envoy.service.auth.v3.Authorization. Whatever fails is answered as a denial.
"""

from typing import Any

from envoy.service.auth.v3 import external_auth_pb2 as pb

from authz.answers import of_session, write
from authz.audit import MAX_PATH_CHARACTERS, Attempt, Audit
from authz.authorizer import AccessRequest, Authorizer
from authz.decision import Allow, Decision, Policy, PolicyMissing, deny
from authz.journal import Admission, Journal, start_of
from authz.limits import Asking, Limiter, Ruling
from authz.traces import begun
from runtime.contracts import (
    HEADER_AUTHORIZATION,
    HEADER_CLIENT_ADDRESS,
    HEADER_REQUEST_ID,
    HEADER_TRACE,
    HEADER_WEBSOCKET_PROTOCOL,
    LABEL_INCARNATION,
    LABEL_NODE,
    AuthPolicy,
    ErrorCode,
    LimitScope,
)
from runtime.grpc_server import Unary
from runtime.logs import get_logger
from runtime.metrics import Metrics

log = get_logger(__name__)

PATH = "/envoy.service.auth.v3.Authorization/Check"

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
        self._count = metrics.counter(
            "hubgate_authz_decisions_total", "verdict", "reason"
        )
        self._audit = audit
        self._journal = journal
        self._limiter = limiter

    def methods(self) -> list[Unary]:
        return [
            Unary(
                PATH,
                pb.CheckRequest.FromString,
                bytes,  # answers are put together of serialised parts
                self.check,
                is_light=True,
            )
        ]

    async def check(self, request: Any) -> bytes:  # protobuf messages have no stubs
        """The serialised answer to one CheckRequest; never raises."""
        attributes = request.attributes
        http = attributes.request.http
        policy, decision = await self._decide(attributes.context_extensions, http)
        attempt = _attempt(attributes, http, policy.route, decision)
        allowed = isinstance(decision, Allow)
        ruling = None
        if allowed and policy.limits is not None:
            ruling = await self._rule(attempt, policy.limits)
        self._count(attempt.verdict, attempt.reason)
        self._audit.record(attempt)
        passes = allowed and (ruling is None or ruling.admitted)
        if self._journal is not None and passes:
            self._journal.record(_admission(attributes, attempt, policy.service))
        trace = None
        if passes:  # who is refused is told of no trace
            trace = begun(http.headers.get(HEADER_TRACE), attempt.request_id)
        answer = write(decision, ruling, attempt.request_id, trace)
        if policy.is_session and decision.claims is not None:
            answer += of_session(decision.claims)
        return answer

    async def _decide(self, context: Any, http: Any) -> tuple[Policy, Decision]:
        policy = _UNREADABLE
        try:
            policy = Policy.from_context(context)
            read = http.headers.get
            access = AccessRequest(
                policy,
                http.path,
                read(HEADER_AUTHORIZATION),
                read(HEADER_WEBSOCKET_PROTOCOL),
            )
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
            attempt.role,
            attempt.user or "",
            attempt.address,
            attempt.route,
            scope is LimitScope.TOKENS,
        )
        try:
            return await self._limiter.rule(asking) if self._limiter else None
        except Exception:
            log.exception("limiter failed; not limited")
            self._metrics.inc("hubgate_authz_limiter_failures_total")
            return None


def _attempt(attributes: Any, http: Any, route: str, decision: Decision) -> Attempt:
    read = http.headers.get
    address = read(HEADER_CLIENT_ADDRESS)
    if address is None:
        address = attributes.source.address.socket_address.address
    claims = decision.claims
    return Attempt(
        "allow" if isinstance(decision, Allow) else "deny",
        decision.reason,
        decision.user_id,
        decision.role,
        None if claims is None else claims.jti,
        route,
        http.method,
        http.path.partition("?")[0][:MAX_PATH_CHARACTERS],
        address,
        read(HEADER_REQUEST_ID),
    )


def _admission(attributes: Any, attempt: Attempt, service: str) -> Admission:
    """The request as the journal keeps it."""
    labels = attributes.destination.labels
    return Admission(
        attempt.request_id or "",
        start_of(attributes.request.time),
        labels.get(LABEL_NODE, ""),
        labels.get(LABEL_INCARNATION, ""),
        attempt.route,
        service,
        attempt.method,
        attempt.path,
        attempt.user or "",
        attempt.role,
        attempt.reason,
    )
