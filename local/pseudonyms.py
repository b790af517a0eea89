"""`hubgate usage export --pseudonymize`: by the control API, which keeps the keys."""

from pathlib import Path

import click

from local.client import ControlClient

FLAG = "--pseudonymize"


@click.command()
@click.option("--from", "start", required=True, metavar="DATE", help="Included.")
@click.option("--to", "end", required=True, metavar="DATE", help="A day: included.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "json", "ndjson", "parquet"]),
    default="csv",
    show_default=True,
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file; its manifest is written beside it.",
)
@click.option(FLAG, is_flag=True, required=True)
@click.pass_obj
def export(
    client: ControlClient, /, start: str, end: str, kind: str, **given: Path
) -> None:
    """Write rows to a file that names no user, and its manifest beside it."""
    asked = {"startDate": start, "endDate": end, "format": kind}
    output = given["output"]
    manifest = client.export({**asked, "pseudonymize": "true"}, output)
    output.with_name(f"{output.name}.manifest.json").write_text(manifest)
    click.echo(f"{output} and its manifest are written", err=True)
