"""`GET /openapi.json`: what the control API can be asked, and what it answers."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field

from control.routers.described import Shown

_EXAMPLE: Final[dict[str, Any]] = {
    "code": "VALIDATION_FAILED",
    "message": "limit: give a whole number from 1 to 200",
    "requestId": "0b0f6f1e-5d0c-4a55-9d3c-2f0b6a6f7c11",
    "errors": [
        {
            "field": "limit",
            "message": "give a whole number from 1 to 200",
            "given": "900",
        }
    ],
}


class FieldError(BaseModel):
    """What is wrong with one field, and what to do about it."""

    field: str
    message: str
    given: str | float | bool | None


class ErrorAnswer(Shown):
    """Every answer that is not the one asked for; `errors` with a 422."""

    code: str
    message: str
    request_id: str
    errors: list[FieldError] = Field(default=[])


_SCHEMAS: Final = "#/components/schemas/"


def _error(description: str) -> dict[str, Any]:
    # By name: given as a model, every route would build a validator of its own.
    schema = {"$ref": f"{_SCHEMAS}{ErrorAnswer.__name__}"}
    content = {"schema": schema, "example": _EXAMPLE}
    return {"description": description, "content": {"application/json": content}}


def _error_schemas() -> dict[str, Any]:
    """Of an error's answer, by name, with its parts."""
    schema = ErrorAnswer.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
    parts: dict[str, Any] = schema.pop("$defs")
    return {**parts, ErrorAnswer.__name__: schema}


#: Of every operation.
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    400: _error("The body is not JSON"),
    401: _error("No token, or one that is not good"),
    403: _error("The token's owner may not see or do this"),
    404: _error("No such path or thing"),
    405: _error("No such method here"),
    409: _error("Not as things stand"),
    413: _error("The body is too large"),
    422: _error("A field or parameter is bad; `errors` names each"),
    429: _error("Too many at once"),
    503: _error("Something that is needed does not answer now, or not in time"),
}
_TOKENS: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The admin token; for /api/usage also a user's JWT",
    }
}


def describe(app: FastAPI, open_paths: frozenset[str]) -> None:
    """Every operation takes a token but those of `open_paths`."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title=app.title,
                version=app.version,
                description="Configuration, tokens and usage of the gateway",
                routes=app.routes,
            )
            components = found.setdefault("components", {})
            components["securitySchemes"] = _TOKENS
            components.setdefault("schemas", {}).update(_error_schemas())
            found["security"] = [{"bearer": []}]
            for path in open_paths & found["paths"].keys():
                for operation in found["paths"][path].values():
                    operation["security"] = []
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way
