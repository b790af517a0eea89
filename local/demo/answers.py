"""Errors of the demo services as `{"code","message"}`, whoever raises them."""

from collections.abc import Mapping

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

_CODES = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}


class Refusal(HTTPException):
    """An answer other than success, with a code that clients may branch on."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.code = code


def describe(error: RequestValidationError) -> str:
    """One sentence per problem, naming the place and never the value given."""
    return "; ".join(
        f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}"
        for one in error.errors()
    )


def answer_in_json(app: FastAPI) -> None:
    """Make every error of `app` the same shape, the framework's own included."""

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        body = {"code": "VALIDATION_FAILED", "message": describe(error)}
        return JSONResponse(body, 422)

    @app.exception_handler(StarletteHTTPException)
    async def _refused(_: Request, error: StarletteHTTPException) -> JSONResponse:
        code = _CODES.get(error.status_code, "ERROR")
        if isinstance(error, Refusal):
            code = error.code
        body = {"code": code, "message": error.detail}
        return JSONResponse(body, error.status_code, error.headers)


def add_health(app: FastAPI, service: str) -> None:
    """GET /health: the process answers."""

    @app.get("/health")
    async def _health() -> dict[str, str]:
        return {"status": "ok", "service": service}
