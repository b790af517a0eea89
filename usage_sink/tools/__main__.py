"""`python -m usage_sink.tools`: what people do with the ledger.

Each command ends with status 0 when all is well, 1 when it found something or could
not do all, and 2 when it was called wrongly.
"""

import sys

import asyncpg
import click

from runtime.lifecycle import EXIT_BAD_SETTINGS
from runtime.postgres import DatabaseRejected, DatabaseUnavailable
from runtime.settings import SettingsError
from usage_sink.errors import UsageSinkError
from usage_sink.tools import checking, keeping, pricing


@click.group(context_settings={"max_content_width": 88})
def tools() -> None:
    """Check, archive, correct and export the ledger."""


for command in (
    *(checking.verify, checking.rebuild),
    *(keeping.archive, keeping.restore, keeping.export),
    *(pricing.reprice, pricing.adjust, pricing.correlate),
):
    tools.add_command(command)


def main() -> None:
    """Run a command; what goes wrong is one line."""
    try:
        tools(prog_name="hubgate usage")
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_BAD_SETTINGS)
    except (
        UsageSinkError,
        DatabaseRejected,
        DatabaseUnavailable,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        OSError,
        TimeoutError,
    ) as error:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
