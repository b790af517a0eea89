"""What can be said about a configuration without a running stack."""

from pathlib import Path

from local.errors import LocalError


def problems(file: Path) -> list[str]:
    """Every problem of the file, with its line and field; empty when it is valid."""
    from control.parse import ConfigRefused, parse  # noqa: PLC0415

    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(f"{file}: {error}") from None
    try:
        parse(text)
    except ConfigRefused as refused:
        return [str(problem) for problem in refused.problems]
    return []
