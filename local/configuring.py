"""`hubgate config`: what the gateway does, shown and changed."""

import sys
from pathlib import Path
from typing import Any

import click
import yaml

from local.client import client_of
from local.options import Command, example, talks_to_control


@click.group()
def config() -> None:
    """Work with the gateway's configuration."""


def _takes_a_file(command: Command) -> Command:
    return click.argument("file", type=click.Path(path_type=Path))(command)


@config.command(epilog=example("hubgate config validate gateway.yaml"))
@_takes_a_file
def validate(file: Path) -> None:
    """Check a configuration without a running stack."""
    from local import offline  # noqa: PLC0415 - loads the control service's model

    problems = offline.problems(file)
    for problem in problems:
        click.echo(f"{file}: {problem}", err=True)
    if problems:
        sys.exit(1)
    click.echo(f"{file}: valid")


@config.command(
    epilog=example(
        "hubgate config show > wanted.yaml", "hubgate config show --revision 12"
    )
)
@click.option("--revision", type=click.IntRange(min=1), help="Not the one in force.")
@talks_to_control
def show(revision: int | None, control: str | None, admin_token: str | None) -> None:
    """Print the configuration in force, as a file that can be edited and applied."""
    document = client_of(control, admin_token).config(revision)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    click.echo(text, nl=False)


@config.command(epilog=example("hubgate config diff wanted.yaml"))
@_takes_a_file
@talks_to_control
def diff(file: Path, control: str | None, admin_token: str | None) -> None:
    """Show what applying FILE would change; nothing is changed.

    Envoy is asked whether it would take it.
    """
    from local import offline, table  # noqa: PLC0415 - only this command needs them

    answer = client_of(control, admin_token).compare(offline.document(file))
    click.echo(f"compared with revision {answer['revision']}", err=True)
    for change in answer["changes"]:
        click.echo(table.change(change))


@config.command(epilog=example("hubgate config apply wanted.yaml --revision 12"))
@_takes_a_file
@click.option(
    "--revision",
    type=click.IntRange(min=1),
    help="The one that it was compared with: refuse when another is in force.",
)
@talks_to_control
def apply(
    file: Path, revision: int | None, control: str | None, admin_token: str | None
) -> None:
    """Put FILE in force, in place of the whole configuration."""
    from local import offline  # noqa: PLC0415 - only this command needs it

    document = offline.document(file)
    _told(client_of(control, admin_token).put_config(document, revision))


@config.command(epilog=example("hubgate config history --limit 5"))
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@talks_to_control
def history(limit: int, control: str | None, admin_token: str | None) -> None:
    """Show the latest revisions, and what became of them."""
    from local import table  # noqa: PLC0415 - only this command needs it

    answer = client_of(control, admin_token).revisions(limit)
    click.echo(table.revisions(answer.get("items", [])))


@config.command(epilog=example("hubgate config rollback 12"))
@click.argument("revision", type=click.IntRange(min=1))
@talks_to_control
def rollback(revision: int, control: str | None, admin_token: str | None) -> None:
    """Put an earlier revision in force again, as a new one."""
    _told(client_of(control, admin_token).roll_back(revision))


def _told(answer: dict[str, Any]) -> None:
    click.echo(f"in force as revision {answer['revision']}", err=True)
