"""The JSON body of every error that the gateway itself makes."""

import json

from runtime.contracts import ErrorCode

_LIMITED = "Too many requests, try again later"


def error_body(code: ErrorCode, message: str, request_id: str | None) -> bytes:
    """`{"code","message","requestId"}`; the id is null before a request has one."""
    return json.dumps(
        {"code": code, "message": message, "requestId": request_id},
        separators=(",", ":"),
    ).encode()


def limited_body(request_id: str | None) -> bytes:
    """Of a request that a limit denies (429)."""
    return error_body(ErrorCode.RATE_LIMIT_EXCEEDED, _LIMITED, request_id)
