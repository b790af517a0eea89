"""How the OpenAPI document tells of answers, and of parameters read by hand."""

from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Shown(BaseModel):
    """A part of an answer; its fields are in camelCase there."""

    model_config = ConfigDict(alias_generator=to_camel)


def body_of(model: type[BaseModel], example: object) -> dict[str, Any]:
    """For `openapi_extra`: a body that a handler reads itself."""
    return body(_schema_of(model), example)


@cache
def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True)
    parts = schema.pop("$defs", {})
    inlined: dict[str, Any] = _inlined(schema, parts)
    return inlined


def body(schema: dict[str, Any], example: object) -> dict[str, Any]:
    """For `openapi_extra`: the same where there is no model."""
    content = {"schema": schema, "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def fields(*required: str, **schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object that has these fields only."""
    found = {"type": "object", "properties": schemas, "additionalProperties": False}
    return found | ({"required": list(required)} if required else {})


def _inlined(value: Any, parts: dict[str, Any]) -> Any:
    """With each part in its place: the document has no room for a model's own."""
    if isinstance(value, list):
        return [_inlined(one, parts) for one in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return _inlined(parts[value["$ref"].rpartition("/")[2]], parts)
    return {name: _inlined(one, parts) for name, one in value.items()}


def parameter(
    name: str, description: str, example: object, **schema: Any
) -> dict[str, Any]:
    """Of the query; a text unless `schema` says else."""
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        "schema": {"type": "string", **schema},
        "example": example,
    }


def parameters(*given: dict[str, Any]) -> dict[str, Any]:
    """For `openapi_extra`."""
    return {"parameters": list(given)}


def example(description: str, value: object) -> dict[int | str, dict[str, Any]]:
    """For `responses`: what a good answer looks like."""
    return {
        200: {
            "description": description,
            "content": {"application/json": {"example": value}},
        }
    }
