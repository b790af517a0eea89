"""RLS on the wire: RateLimitRequest -> Caller, Verdict -> RateLimitResponse.

Envoy: envoy.service.ratelimit.v3.RateLimitService.
"""

from typing import Any

from envoy.config.core.v3.base_pb2 import HeaderValue
from envoy.service.ratelimit.v3 import rls_pb2 as pb

from ratelimit.callers import Caller
from ratelimit.limiter import Limited, Limiter, Unlimited, Verdict
from ratelimit.telling import counters, headers
from runtime.answers import limited_body
from runtime.contracts import (
    DESCRIPTOR_ADDRESS,
    DESCRIPTOR_REQUEST_ID,
    DESCRIPTOR_ROLE,
    DESCRIPTOR_ROUTE,
    DESCRIPTOR_TOKENS,
    DESCRIPTOR_USER,
    METADATA_COUNTERS,
    RATE_LIMIT_DOMAIN,
    ROLE_GUEST,
    TOKENS_CHARGE,
)
from runtime.grpc_server import RpcError, RpcStatus, Unary

PATH = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"

_OK = pb.RateLimitResponse.OK
_OVER_LIMIT = pb.RateLimitResponse.OVER_LIMIT


class RateLimitService:
    """The adapter between Envoy and the limiter."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    def methods(self) -> list[Unary]:
        return [
            Unary(
                PATH,
                pb.RateLimitRequest.FromString,
                pb.RateLimitResponse.SerializeToString,
                self.should_rate_limit,
                is_light=True,
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
        return _write(verdict, entries.get(DESCRIPTOR_REQUEST_ID))


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
    if verdict.admitted:
        return _telling(_answer(_OK), verdict)
    response = _telling(_answer(_OVER_LIMIT), verdict)
    _add_header(response, "content-type", "application/json")
    response.raw_body = limited_body(request_id)
    return response


def _telling(response: Any, verdict: Limited) -> Any:
    for name, value in headers(verdict).items():
        _add_header(response, name, value)
    told = response.dynamic_metadata.fields[METADATA_COUNTERS]
    told.string_value = counters(verdict)
    return response


def _add_header(response: Any, name: str, value: str) -> None:
    response.response_headers_to_add.append(HeaderValue(key=name, value=value))


def _answer(code: int) -> Any:
    response = pb.RateLimitResponse(overall_code=code)
    response.statuses.add(code=code)
    return response
