"""YAML text to a checked document, or every problem at once with its line."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from control.cors import Cors
from control.edge import Edge
from control.limits import TAG, Limits, RateLimit
from control.model import (
    DOCUMENT_ERROR,
    GatewayConfig,
    Price,
    Route,
)
from control.services import Breaker, Ejection, HealthCheck, Service
from control.usage_rules import UsageRules

#: An alias may repeat a part, not multiply into a bomb.
MAX_NODES = 200_000
MAX_DEPTH = 32
#: Of a bad value, so much is said back.
MAX_SHOWN = 100

#: YAML reads 2026-01-01, 1.5 and yes as something else.
_NO_TEXT = "give text; in quotes if it could be a number, a date, yes or no"

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong where; `message` says what to do about it."""

    field: str
    message: str
    line: int | None = None
    given: str | float | bool | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        given = f" (given: {self.given!r})" if self.given is not None else ""
        return f"{where}{self.field}: {self.message}{given}"


class ConfigRefused(ValueError):
    """The text is not a valid configuration; carries every problem."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


def parse(text: str) -> GatewayConfig:
    """The document in `text`.

    Raises:
        ConfigRefused: with every problem, not only the first.
    """
    reader = _Reader()
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigRefused([_unreadable(error)]) from None
    if root is None:
        raise ConfigRefused([Problem("document", "it is empty; begin with version: 1")])
    value = reader.value(root, ())
    problems = list(reader.problems)
    try:
        config = GatewayConfig.model_validate(value)
    except ValidationError as error:
        problems += [_located(one, reader.lines) for one in problems_of(error)]
        raise ConfigRefused(sorted(problems, key=_by_line)) from None
    if problems:
        raise ConfigRefused(sorted(problems, key=_by_line))
    return config


def from_document(document: Any, model: type[BaseModel] = GatewayConfig) -> Any:
    """JSON values to a checked `model`.

    Raises:
        ConfigRefused: with every problem; without lines.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigRefused(problems_of(error)) from None


def problems_of(error: ValidationError) -> list[Problem]:
    """Pydantic's errors in our words; one per problem."""
    return [problem for one in error.errors() for problem in _problems(one)]


def dotted(path: Path) -> str:
    """`("routes", 0, "auth")` -> `routes[0].auth`; tags of unions left out."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif not step.startswith(TAG) and step != "[key]":
            text += f".{step}" if text else step
    return text or "document"


def _problems(error: ErrorDetails) -> Iterator[Problem]:
    field = dotted(error["loc"])
    if error["type"] == DOCUMENT_ERROR:
        for place, message in error["ctx"]["problems"]:
            yield Problem(f"routes[{place}]", message)
        return
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        yield Problem(field, _unknown_field(str(error["loc"][-1])))
    elif error["type"] == "missing":
        yield Problem(field, "this field is required; add it")
    elif error["type"] == "string_type":
        yield Problem(field, _NO_TEXT, given=_shown(error["input"]))
    else:
        yield Problem(field, message, given=_shown(error["input"]))


def _unknown_field(name: str) -> str:
    models = (
        *(Breaker, Cors, Edge, Ejection, GatewayConfig, HealthCheck, Limits),
        *(Price, RateLimit, Route, Service, UsageRules),
    )
    known = sorted({name for model in models for name in model.model_fields})
    near = difflib.get_close_matches(name, known, n=1)
    return f"no such field; did you mean {near[0]}?" if near else "no such field"


def _shown(value: object) -> str | float | bool | None:
    if isinstance(value, str):
        return value[:MAX_SHOWN]
    return value if isinstance(value, int | float) else None


def _located(problem: Problem, lines: dict[str, int]) -> Problem:
    field = problem.field
    while field not in lines and field:
        # A missing field has no line of its own: the part that lacks it has.
        field = field[: max(field.rfind("."), field.rfind("["), 0)]
    return Problem(problem.field, problem.message, lines.get(field, 1), problem.given)


def _by_line(problem: Problem) -> tuple[int, str]:
    return problem.line or 0, problem.field


def _unreadable(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or "not readable as YAML"
    return Problem(
        "document",
        f"not YAML: {reason}; check indentation, colons and quotes",
        mark.line + 1 if mark is not None else None,
    )


class _Reader:
    """YAML nodes to JSON values, noting the line of every field."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.lines: dict[str, int] = {}
        self._nodes = 0
        self._scalars = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node, path: Path) -> Any:
        field = dotted(path)
        line = node.start_mark.line + 1
        self.lines.setdefault(field, line)
        self._nodes += 1
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise ConfigRefused(
                [Problem(field, "too large or too deep; expand fewer aliases", line)]
            )
        match node:
            case yaml.MappingNode():
                return self._mapping(node, path)
            case yaml.SequenceNode():
                return [
                    self.value(item, (*path, index))
                    for index, item in enumerate(node.value)
                ]
            case _:
                return self._scalar(node, field, line)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._add(path, "a field name is plain text", line)
                continue
            key = str(key_node.value)
            if key in found:
                self._add((*path, key), "given twice; keep one", line)
                continue
            self.lines[dotted((*path, key))] = line
            found[key] = self.value(value_node, (*path, key))
        return found

    def _scalar(self, node: yaml.Node, field: str, line: int) -> Any:
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError):
            self.problems.append(
                Problem(field, "a plain value is needed here, no YAML tag", line)
            )
            return None

    def _add(self, path: Path, message: str, line: int) -> None:
        self.problems.append(Problem(dotted(path), message, line))
