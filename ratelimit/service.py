"""RLS on the wire: RateLimitRequest -> Caller, Verdict -> RateLimitResponse.

Envoy: envoy.service.ratelimit.v3.RateLimitService.
"""

from typing import Any

from envoy.config.core.v3.base_pb2 import HeaderValue
from envoy.service.ratelimit.v3 import rls_pb2 as pb

from ratelimit.callers import Caller
from ratelimit.limiter import Limited, Limiter, Unlimited, Verdict
from runtime.answers import error_body
from runtime.contracts import (
    DESCRIPTOR_ADDRESS,
    DESCRIPTOR_REQUEST_ID,
    DESCRIPTOR_ROLE,
    DESCRIPTOR_ROUTE,
    DESCRIPTOR_TOKENS,
    DESCRIPTOR_USER,
    METADATA_COUNTERS,
    RATE_LIMIT_DOMAIN,
    RATELIMIT_LIMIT,
    RATELIMIT_REMAINING,
    RATELIMIT_RESET,
    RETRY_AFTER,
    ROLE_GUEST,
    TOKENS_CHARGE,
    ErrorCode,
)
from runtime.grpc_server import RpcError, RpcStatus, Unary
from runtime.metrics import Metrics

PATH = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"

_OK = pb.RateLimitResponse.OK
_OVER_LIMIT = pb.RateLimitResponse.OVER_LIMIT
_MESSAGE = "Too many requests, try again later"


class RateLimitService:
    """The adapter between Envoy and the limiter."""

    def __init__(self, limiter: Limiter, metrics: Metrics) -> None:
        self._limiter = limiter
        self._metrics = metrics

    def methods(self) -> list[Unary]:
        return [
            Unary(
                PATH,
                pb.RateLimitRequest.FromString,
                pb.RateLimitResponse.SerializeToString,
                self.should_rate_limit,
            )
        ]

    async def should_rate_limit(self, request: Any) -> Any:  # protobuf has no stubs
        """Answer one request with one descriptor of our own shape.

        Raises:
            RpcError: INVALID_ARGUMENT, naming what is wrong with the descriptor.
        """
        entries = _read(request)
        caller = Caller(
            role=entries.get(DESCRIPTOR_ROLE) or ROLE_GUEST,
            user=entries.get(DESCRIPTOR_USER, ""),
            address=entries.get(DESCRIPTOR_ADDRESS, ""),
        )
        route = entries.get(DESCRIPTOR_ROUTE, "")
        tokens = entries.get(DESCRIPTOR_TOKENS, "")
        hits = _hits(request)
        if tokens == TOKENS_CHARGE:
            await self._limiter.settle(caller, route, hits)
            return _answer(_OK)
        verdict = await self._limiter.decide(caller, route, hits, tokens=bool(tokens))
        self._count(verdict, caller)
        return _write(verdict, entries.get(DESCRIPTOR_REQUEST_ID))

    def _count(self, verdict: Verdict, caller: Caller) -> None:
        known = caller.role in ("admin", "manager", "user", ROLE_GUEST)
        # Role names come from tokens: an unbounded label would fill the memory.
        role = caller.role if known else "other"
        self._metrics.inc(
            "hubgate_ratelimit_decisions_total", verdict=_word(verdict), role=role
        )


def _word(verdict: Verdict) -> str:
    match verdict:
        case Unlimited():
            return "unlimited"
        case Limited(admitted=admitted):
            return "allow" if admitted else "deny"


def _read(request: Any) -> dict[str, str]:
    if request.domain != RATE_LIMIT_DOMAIN:
        raise RpcError(
            RpcStatus.INVALID_ARGUMENT,
            f"domain: {request.domain!r} is not {RATE_LIMIT_DOMAIN!r}",
        )
    if len(request.descriptors) != 1:
        raise RpcError(
            RpcStatus.INVALID_ARGUMENT,
            f"descriptors: {len(request.descriptors)} given; send exactly one",
        )
    return {entry.key: entry.value for entry in request.descriptors[0].entries}


def _hits(request: Any) -> int:
    descriptor = request.descriptors[0]
    if descriptor.HasField("hits_addend"):
        return int(descriptor.hits_addend.value)
    return int(request.hits_addend) or 1


def _write(verdict: Verdict, request_id: str | None) -> Any:
    if isinstance(verdict, Unlimited):
        return _answer(_OK)
    headers = {
        RATELIMIT_LIMIT: verdict.limit,
        RATELIMIT_REMAINING: verdict.remaining,
        RATELIMIT_RESET: verdict.reset_s,
    }
    if verdict.admitted:
        return _telling(_answer(_OK, headers), verdict)
    response = _answer(_OVER_LIMIT, {**headers, RETRY_AFTER: verdict.retry_after_s})
    _telling(response, verdict)
    response.response_headers_to_add.append(
        HeaderValue(key="content-type", value="application/json")
    )
    response.raw_body = error_body(ErrorCode.RATE_LIMIT_EXCEEDED, _MESSAGE, request_id)
    return response


def _telling(response: Any, verdict: Limited) -> Any:
    """With what the ledger keeps of the decision; no header could, a client sees it."""
    response.dynamic_metadata.fields[METADATA_COUNTERS].string_value = "|".join(
        f"{one.limit};{one.remaining};{one.reset_s};{one.rule}"
        for one in verdict.counters
    )
    return response


def _answer(code: int, headers: dict[str, int] | None = None) -> Any:
    response = pb.RateLimitResponse(overall_code=code)
    response.statuses.add(code=code)
    for name, value in (headers or {}).items():
        response.response_headers_to_add.append(HeaderValue(key=name, value=str(value)))
    return response
