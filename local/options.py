"""What several commands of `hubgate` have alike."""

from collections.abc import Callable

import click

Command = Callable[..., None]


def example(*lines: str) -> str:
    # \b: click keeps the line breaks of such a paragraph.
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def talks_to_control(command: Command) -> Command:
    """Add the two options that every client of the control API has."""
    token = click.option(
        "--admin-token",
        envvar="HUBGATE_ADMIN_TOKEN",
        help="Or HUBGATE_ADMIN_TOKEN; default: that of the stack running here.",
    )
    control = click.option(
        "--control",
        metavar="URL",
        envvar="HUBGATE_CONTROL_URL",
        help="Or HUBGATE_CONTROL_URL; default: the stack running here.",
    )
    return control(token(command))
