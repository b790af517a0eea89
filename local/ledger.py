"""`hubgate usage verify` and the like: the ledger's own commands, told where it is.

They run on the ledger's machine as a process of their own, with the addresses and
folders of the stack that runs here, or with those that are given.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from local import pseudonyms
from local.client import client_of
from local.errors import LocalError
from local.settings import DEFAULT_DATA_DIR
from local.state import find_stack, live_stacks

#: What `python -m usage_sink.tools` can do, in a line each.
COMMANDS = {
    "verify": "Check that the ledger, or an exported file, is what was written.",
    "archive": "Write closed days to Parquet files and drop them.",
    "restore": "Bring an archived day back.",
    "export": "Write rows to a file; with --pseudonymize one that names no user.",
    "reprice": "Rate rows that have no price; differences become adjustments.",
    "adjust": "Correct one row by hand, such as for a refund.",
    "correlate": "Compare reported credits with the price book.",
    "rebuild": "Make the hourly sums again from the rows.",
}
_DATABASE = "HUBGATE_DATABASE_URL"
_ROOT = Path(__file__).parent.parent


def add_commands(group: click.Group) -> None:
    """Add them all; their own options are theirs to explain."""
    for name, text in COMMANDS.items():
        group.add_command(_command(name, text))


def _command(name: str, text: str) -> click.Command:
    def run(
        control: str | None, admin_token: str | None, arguments: tuple[str, ...]
    ) -> None:
        if name == "export" and pseudonyms.FLAG in arguments:
            client = client_of(control, admin_token)
            pseudonyms.export.main(list(arguments), "hubgate usage export", obj=client)
        sys.exit(_run([name, *arguments], os.environ, control))  # noqa: TID251 - handed on

    return click.Command(
        name,
        callback=run,
        params=[
            click.Option(["--control"], envvar="HUBGATE_CONTROL_URL"),
            click.Option(["--admin-token"], envvar="HUBGATE_ADMIN_TOKEN"),
            click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED),
        ],
        help=text,
        short_help=text,
        # `--help` is answered by the command itself, which knows its options.
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )


def _run(arguments: list[str], environ: Mapping[str, str], control: str | None) -> int:
    result = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-P", "-m", "usage_sink.tools", *arguments],
        env={**environ, **place(arguments, environ, control), **_path(environ)},
        check=False,
    )
    return result.returncode


def place(
    arguments: list[str], environ: Mapping[str, str], control: str | None
) -> dict[str, str]:
    """Where the ledger of the running stack is; nothing when it was said."""
    is_said = environ.get(_DATABASE) or any(
        one.partition("=")[0] == "--database-url" for one in arguments
    )
    if is_said or "--help" in arguments or _is_of_a_file(arguments):
        return {}
    stack = _stack(control)
    found = {
        _DATABASE: stack["database_url"],
        "HUBGATE_USAGE_SINK_SPOOL_DIR": stack["spool_dir"],
        "HUBGATE_ARCHIVE_DIR": stack["archive_dir"],
    }
    return {name: value for name, value in found.items() if not environ.get(name)}


def _is_of_a_file(arguments: list[str]) -> bool:
    """`verify FILE`: it asks no ledger."""
    if arguments[0] != "verify":
        return False
    before = ["--deep", *arguments[1:]]
    return any(
        not one.startswith("-") and not _wants_a_value(last)
        for last, one in zip(before, arguments[1:], strict=False)
    )


def _wants_a_value(argument: str) -> bool:
    is_flag = argument in {"--deep", "--"} or "=" in argument
    return argument.startswith("--") and not is_flag


def _stack(control: str | None) -> dict[str, Any]:
    if control is None:
        found = find_stack(DEFAULT_DATA_DIR.absolute())
    else:
        wanted = control.rstrip("/")
        found = next((s for s in live_stacks() if s["control"] == wanted), None)
    if found is None:
        raise LocalError(
            "no running stack found here: run this on the ledger's machine, or give"
            " --database-url URL of the ledger's owner"
        )
    return found


def _path(environ: Mapping[str, str]) -> dict[str, str]:
    paths = (str(_ROOT), environ.get("PYTHONPATH", ""))
    return {"PYTHONPATH": ":".join(path for path in paths if path)}
