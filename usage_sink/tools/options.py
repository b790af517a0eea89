"""Options that several commands have, and how their values are read."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final

import click

Command = Callable[..., Any]

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 1, 1, tzinfo=UTC)
FOLDER: Final = click.Path(path_type=Path, file_okay=False)


class Instant(click.ParamType[datetime]):
    """A day or an instant; as an end, a day is included as a whole."""

    name = "DAY|TIME"

    def __init__(self, *, is_end: bool = False) -> None:
        self._is_end = is_end

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            if _DAY.fullmatch(value):
                at = datetime.combine(date.fromisoformat(value), time(), UTC)
                return at + timedelta(days=1) if self._is_end else at
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail("give 2026-01-31 or 2026-01-31T08:00:00Z", param, ctx)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


class Day(click.ParamType[date]):
    """A UTC day."""

    name = "DAY"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> date:
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail("give a day such as 2026-01-31", param, ctx)


#: Only what changes something needs more than to read.
_AS_WHOM: Final = "The ledger's, as its owner; verify: as any in hubgate_reader."


def example(line: str) -> str:
    r"""\b: click keeps the line breaks of such a paragraph."""
    return f"\b\nExample:\n  {line}"


def ledger(command: Command) -> Command:
    """Where the ledger and its files are."""
    for name, variable, what in (
        ("--spool-dir", "HUBGATE_USAGE_SINK_SPOOL_DIR", "The running sink's folder."),
        ("--archive-dir", "HUBGATE_ARCHIVE_DIR", "Where archived days are."),
        ("--database-url", "HUBGATE_DATABASE_URL", _AS_WHOM),
    ):
        text = f"{what}  [default: {variable}]"
        command = click.option(name, variable, metavar="X", help=text)(command)
    return command


def span(command: Command) -> Command:
    """Rows of which time."""
    start = click.option(
        "--from", "start", type=Instant(), default=_FIRST, help="Included."
    )
    end = click.option(
        "--to",
        "end",
        type=Instant(is_end=True),
        default=_LAST,
        help="A day: included; an instant: not.",
    )
    return start(end(command))


def chosen(command: Command) -> Command:
    """Rows of which service and model."""
    service = click.option("--service", help="Only this service's, such as openai.")
    model = click.option("--model", help="Only this model's.")
    return service(model(command))
