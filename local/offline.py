"""What can be said about a configuration without a running stack."""

from pathlib import Path
from typing import Any

from local.errors import LocalError


def problems(file: Path) -> list[str]:
    """Every problem of the file, with its line and field; empty when it is valid."""
    found = _read(file)
    return found if isinstance(found, list) else []


def document(file: Path) -> dict[str, Any]:
    """What control takes.

    Raises:
        LocalError: with every problem of the file.
    """
    found = _read(file)
    if isinstance(found, list):
        raise LocalError("\n".join(f"{file}: {problem}" for problem in found))
    return found


def _read(file: Path) -> dict[str, Any] | list[str]:
    from control.parse import ConfigRefused, parse  # noqa: PLC0415

    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(f"{file}: {error}") from None
    try:
        return parse(text).document()
    except ConfigRefused as refused:
        return [str(problem) for problem in refused.problems]
