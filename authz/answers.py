"""Decision -> serialised CheckResponse, put together of parts that are kept.

The serialised parts of a protobuf message, one after the other, are the whole: members
are merged, lists are joined (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
What says nothing of a single request is built once.
"""

from functools import lru_cache
from itertools import starmap
from typing import Any

from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.auth.v3 import external_auth_pb2 as pb
from envoy.type.v3.http_status_pb2 import HttpStatus
from google.rpc.code_pb2 import OK, PERMISSION_DENIED

from authz.decision import Allow, Decision, Deny
from authz.limits import Ruling
from runtime.answers import error_body, limited_body
from runtime.contracts import (
    HEADER_USER_ID,
    HEADER_USER_ROLE,
    METADATA_COUNTERS,
    METADATA_EXPIRES_AT,
    METADATA_ISSUED_AT,
    METADATA_REASON,
    METADATA_ROLE,
    METADATA_TOKEN_ID,
    METADATA_USER_ID,
    ErrorCode,
)
from runtime.identity.tokens import Claims

_TOO_MANY = 429

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


def write(decision: Decision, ruling: Ruling | None, request_id: str | None) -> bytes:
    """The whole answer; a ruling is one of an allowed request."""
    who = _who(decision.user_id, decision.role, decision.reason)
    match decision:
        case Deny():
            body = error_body(decision.code, decision.message, request_id)
            challenge = _CHALLENGES.get(decision.code)
            headers = {"www-authenticate": challenge} if challenge else {}
            return who + _denied(decision.status, body, headers)
        case Allow():
            passes = _passes(decision.user_id, decision.role)
            return who + (_ruled(ruling, passes, request_id) if ruling else passes)


def _ruled(ruling: Ruling, passes: bytes, request_id: str | None) -> bytes:
    counted = _counted(ruling.counters)
    if not ruling.admitted:
        body = limited_body(request_id)
        return counted + _denied(_TOO_MANY, body, dict(ruling.headers))
    return b"".join((passes, counted, *starmap(_told, ruling.headers.items())))


def of_session(claims: Claims) -> bytes:
    """What ext_proc must know to end the connection with the token."""
    response = pb.CheckResponse()
    metadata = response.dynamic_metadata
    metadata[METADATA_EXPIRES_AT] = claims.exp
    if claims.iat is not None:
        metadata[METADATA_ISSUED_AT] = claims.iat
    if claims.jti is not None:
        metadata[METADATA_TOKEN_ID] = claims.jti
    return _bytes(response)


@lru_cache(maxsize=10_000)
def _who(user_id: str | None, role: str, reason: str) -> bytes:
    response = pb.CheckResponse()
    metadata = response.dynamic_metadata
    metadata[METADATA_ROLE] = role
    metadata[METADATA_REASON] = reason
    if user_id is not None:
        metadata[METADATA_USER_ID] = user_id
    return _bytes(response)


@lru_cache(maxsize=10_000)
def _passes(user_id: str | None, role: str) -> bytes:
    response = pb.CheckResponse()
    response.status.code = OK
    headers = response.ok_response.headers
    if user_id is not None:
        headers.append(_overwriting(HEADER_USER_ID, user_id))
    headers.append(_overwriting(HEADER_USER_ROLE, role))
    return _bytes(response)


@lru_cache(maxsize=10_000)
def _told(name: str, value: str) -> bytes:
    """A header for the client, beside what an upstream says of limits of its own."""
    response = pb.CheckResponse()
    option = response.ok_response.response_headers_to_add.add()
    option.header.key, option.header.value = name, value
    return _bytes(response)


def _counted(counters: str) -> bytes:
    response = pb.CheckResponse()
    response.dynamic_metadata.fields[METADATA_COUNTERS].string_value = counters
    return _bytes(response)


def _denied(status: int, body: bytes, headers: dict[str, str]) -> bytes:
    response = pb.CheckResponse()
    response.status.code = PERMISSION_DENIED
    denied = response.denied_response
    denied.status.CopyFrom(HttpStatus(code=status))
    denied.body = body
    for name, value in {"content-type": "application/json", **headers}.items():
        denied.headers.append(_overwriting(name, value))
    return _bytes(response)


def _overwriting(name: str, value: str) -> Any:
    # So that nothing a client sent stands beside it.
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value),
        append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _bytes(response: Any) -> bytes:
    return bytes(response.SerializeToString())
