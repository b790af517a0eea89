"""Errors of the control API as JSON, in the shape of the gateway's own."""

import json
import math
import re
import uuid

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from control.changes import NotReady
from control.errors import ApiCode, ApiError, invalid
from control.export import ArchiveUnavailable
from control.parameters import BadParameters
from control.parse import ConfigRefused, Problem
from control.registry import RegistryUnavailable
from control.store import QueryTimeout, RevocationsUnavailable, StoreUnavailable
from runtime.contracts import HEADER_REQUEST_ID, ErrorCode
from runtime.logs import get_logger

log = get_logger(__name__)

_AWAY = {
    StoreUnavailable: (
        ApiCode.DATABASE_UNAVAILABLE,
        "The database does not answer now; nothing was changed, try again",
    ),
    QueryTimeout: (
        ApiCode.QUERY_TIMEOUT,
        (
            "The question took too long and was stopped; ask for less: a shorter "
            "period (startDate, endDate), or one userId, service or model"
        ),
    ),
    ArchiveUnavailable: (
        ApiCode.ARCHIVE_UNAVAILABLE,
        "An archived day can't be read here; leave it out, or ask the operator",
    ),
    RevocationsUnavailable: (
        ApiCode.REDIS_UNAVAILABLE,
        "Redis does not answer now; the revocation may not be in force",
    ),
    RegistryUnavailable: (
        ApiCode.REDIS_UNAVAILABLE,
        "Redis does not answer now; the instance may not be registered",
    ),
    NotReady: (ApiCode.NOT_READY, "No configuration is in force yet, try again"),
}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_UNAUTHORISED = 401
_NOT_FOUND = 404
_METHOD_NOT_ALLOWED = 405


def request_id(request: Request) -> str:
    """The gateway's, or a new one for who comes without it."""
    given = request.headers.get(HEADER_REQUEST_ID, "")
    return given if _UUID.fullmatch(given) else str(uuid.uuid4())


def install(app: FastAPI) -> None:
    """Answer every exception that is expected, and what is not."""
    for kind in (
        ApiError,
        ConfigRefused,
        BadParameters,
        StoreUnavailable,
        QueryTimeout,
        ArchiveUnavailable,
        RevocationsUnavailable,
        RegistryUnavailable,
        NotReady,
        HTTPException,
        Exception,
    ):
        app.add_exception_handler(kind, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    answer = _as_api_error(error)
    if answer.code == ApiCode.INTERNAL:
        log.error("request failed", path=request.url.path, exc_info=error)
    id_ = request_id(request)
    body: dict[str, object] = {
        "code": str(answer.code),
        "message": answer.message,
        "requestId": id_,
    }
    if answer.problems:
        body["errors"] = [_problem(one) for one in answer.problems]
    headers = {HEADER_REQUEST_ID: id_}
    if answer.status == _UNAUTHORISED:
        headers["www-authenticate"] = "Bearer"
    # In ASCII: what was given may hold halves of characters, which no UTF-8 has.
    content = json.dumps(body, allow_nan=False)
    return Response(content, answer.status, headers, "application/json")


def _as_api_error(error: Exception) -> ApiError:
    match error:
        case ApiError():
            return error
        case ConfigRefused() | BadParameters():
            return invalid(*error.problems)
        case (
            StoreUnavailable()
            | QueryTimeout()
            | ArchiveUnavailable()
            | RevocationsUnavailable()
            | RegistryUnavailable()
            | NotReady()
        ):
            code, message = _AWAY[type(error)]
            return ApiError(503, code, message)
        case HTTPException():
            return _of_http(error)
        case _:
            return ApiError(500, ApiCode.INTERNAL, "Something went wrong here")


def _of_http(error: HTTPException) -> ApiError:
    if error.status_code == _NOT_FOUND:
        return ApiError(404, ErrorCode.ROUTE_NOT_FOUND, "No such path")
    if error.status_code == _METHOD_NOT_ALLOWED:
        return ApiError(405, ErrorCode.METHOD_NOT_ALLOWED, "No such method here")
    return ApiError(error.status_code, ErrorCode.BAD_REQUEST, str(error.detail))


def _problem(problem: Problem) -> dict[str, object]:
    given = problem.given
    if isinstance(given, float) and not math.isfinite(given):
        given = str(given)  # JSON has no such number
    return {"field": problem.field, "message": problem.message, "given": given}
