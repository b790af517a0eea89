"""The JSON body of every error that the gateway itself makes."""

import json

from runtime.contracts import ErrorCode


def error_body(code: ErrorCode, message: str, request_id: str | None) -> bytes:
    """`{"code","message","requestId"}`; the id is null before a request has one."""
    return json.dumps(
        {"code": code, "message": message, "requestId": request_id},
        separators=(",", ":"),
    ).encode()
