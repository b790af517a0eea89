"""Decision -> serialised CheckResponse.

The serialised parts of a protobuf message, one after the other, are the whole: members
are merged, lists are joined (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
What lets pass is a form that is filled in; the few denials are built one by one.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.auth.v3 import external_auth_pb2 as pb
from envoy.type.v3.http_status_pb2 import HttpStatus
from google.rpc.code_pb2 import OK, PERMISSION_DENIED

from authz import forms
from authz.decision import Allow, Decision, Deny
from authz.limits import Ruling
from runtime.answers import error_body, limited_body
from runtime.contracts import (
    HEADER_TRACE,
    HEADER_TRACE_STATE,
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


def write(
    decision: Decision,
    ruling: Ruling | None,
    request_id: str | None,
    trace: str | None,
) -> bytes:
    """The whole answer; a ruling is one of an allowed request.

    `trace` is the `traceparent` of a trace that begins here.
    """
    if isinstance(decision, Deny):
        body = error_body(decision.code, decision.message, request_id)
        challenge = _CHALLENGES.get(decision.code)
        headers = {"www-authenticate": challenge} if challenge else {}
        return _who(decision) + _denied(decision.status, body, headers)
    if ruling is None or ruling.admitted:
        return _allowed(decision, ruling, trace)
    counted = _bytes(_in_metadata(METADATA_COUNTERS, ruling.counters))
    denied = _denied(_TOO_MANY, limited_body(request_id), ruling.headers)
    return _who(decision) + counted + denied


def _allowed(decision: Allow, ruling: Ruling | None, trace: str | None) -> bytes:
    texts: list[bytes] = []
    if decision.user_id is not None:
        user = decision.user_id.encode()
        texts += (user, user)
    if trace is not None:
        texts.append(trace.encode())
    names: tuple[str, ...] | None = None
    if ruling is not None:
        names = tuple(ruling.headers)
        texts += map(str.encode, ruling.headers.values())
        texts.append(ruling.counters.encode())
    is_guest, begins_trace = decision.user_id is None, trace is not None
    kind = decision.role, decision.reason, is_guest, begins_trace, names
    return _form(kind, tuple(map(len, texts))) % tuple(texts)


#: What answers that let pass differ in but texts: role, reason, whether it is a guest,
#: who has no id, whether a trace begins, and the headers that tell of limits; None
#: where none was asked.
_Kind = tuple[str, str, bool, bool, tuple[str, ...] | None]


@lru_cache(maxsize=4096)
def _form(kind: _Kind, sizes: tuple[int, ...]) -> bytes:
    """With places for the user's id twice, the trace, the limits and the counters."""
    role, reason, is_guest, begins_trace, limits = kind
    parts = [
        forms.fixed(_in_metadata(METADATA_ROLE, role)),
        forms.fixed(_in_metadata(METADATA_REASON, reason)),
        forms.fixed(pb.CheckResponse(status={"code": OK}, ok_response={})),
        forms.fixed(_said(HEADER_USER_ROLE, role)),
    ]
    places: list[Callable[[str], Any]] = []
    if not is_guest:
        places += (
            partial(_in_metadata, METADATA_USER_ID),
            partial(_said, HEADER_USER_ID),
        )
    if begins_trace:
        places.append(partial(_said, HEADER_TRACE))
        # What belongs to a trace that nobody can follow (section 3.3.1.1).
        parts.append(forms.fixed(_unsaid(HEADER_TRACE_STATE)))
    if limits is not None:
        places += (partial(_told, name) for name in limits)
        places.append(partial(_in_metadata, METADATA_COUNTERS))
    parts += map(forms.form, places, sizes)
    return b"".join(parts)


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


def _who(decision: Decision) -> bytes:
    response = pb.CheckResponse()
    metadata = response.dynamic_metadata
    metadata[METADATA_ROLE] = decision.role
    metadata[METADATA_REASON] = decision.reason
    if decision.user_id is not None:
        metadata[METADATA_USER_ID] = decision.user_id
    return _bytes(response)


def _in_metadata(name: str, text: str) -> Any:
    response = pb.CheckResponse()
    response.dynamic_metadata.fields[name].string_value = text
    return response


def _said(name: str, text: str) -> Any:
    """A header for the upstream."""
    response = pb.CheckResponse()
    response.ok_response.headers.append(_overwriting(name, text))
    return response


def _unsaid(name: str) -> Any:
    """A header that the upstream shall not see."""
    return pb.CheckResponse(ok_response={"headers_to_remove": [name]})


def _told(name: str, text: str) -> Any:
    """A header for the client, beside what an upstream says of limits of its own."""
    response = pb.CheckResponse()
    option = response.ok_response.response_headers_to_add.add()
    option.header.key, option.header.value = name, text
    return response


def _denied(status: int, body: bytes, headers: Mapping[str, str]) -> bytes:
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
