"""`verify` and `rebuild`."""

import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import click

from runtime import logs
from usage_sink import archives, exported
from usage_sink import rebuild as sums
from usage_sink.findings import Finding, Report
from usage_sink.tools.connection import connected
from usage_sink.tools.options import Day, example, ledger
from usage_sink.tools.settings import Settings, load
from usage_sink.verify import verify as verify_ledger

_MOST_SHOWN = 20


@click.command(epilog=example("hubgate usage verify usage.csv --manifest usage.json"))
@click.argument(
    "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=f"Of FILE.  [default: FILE{exported.SUFFIX}]",
)
@ledger
@click.option(
    "--heads",
    type=click.Path(path_type=Path, exists=True),
    help="Heads of the chain, kept apart.  [default: those of the spool]",
)
@click.option("--deep", is_flag=True, help="Archived days row by row, too.")
def verify(
    file: Path | None,
    manifest: Path | None,
    heads: Path | None,
    *,
    deep: bool,
    **options: str | None,
) -> None:
    """Check that the ledger says what was written; name the first bad batch.

    With FILE, an exported file: that it is what its manifest says.
    """
    if file is not None:
        beside = file.with_name(file.name + exported.SUFFIX)
        sys.exit(_verify_file(file, manifest or beside))
    if manifest is not None:
        raise click.UsageError("--manifest goes with FILE")
    settings = load(options)
    logs.configure("usage_tools", settings)
    sys.exit(asyncio.run(_verify(settings, heads, deep=deep)))


def _verify_file(file: Path, manifest: Path) -> int:
    checked = exported.check(file, manifest)
    for one in checked:
        if one.is_good:
            click.echo(f"ok    {one.name:15} {one.found}")
        else:
            click.echo(f"BAD   {one.name:15} {one.found}, the manifest says {one.said}")
    return 0 if all(one.is_good for one in checked) else 1


async def _verify(settings: Settings, heads: Path | None, *, deep: bool) -> int:
    if heads is None and (kept := settings.heads()) is not None and kept.exists():
        heads = kept
    report = await verify_ledger(settings.database_url, heads)
    if heads is None:
        click.echo("no heads from outside the database: an older copy is not found")
    checked = {
        "chain": f"{report.seals} seals in {report.chains} chains, {report.heads} heads"
        " kept outside",
        "rows": f"{report.rows} rows",
        "adjustments": f"{report.adjustments} adjustments",
        "rollups": f"sums of {report.days} days",
        "guards": "triggers in force",
        "archives": await _archives(settings, report, deep=deep),
    }
    by_check: dict[str, list[Finding]] = defaultdict(list)
    for finding in report.findings:
        by_check[finding.check].append(finding)
    for check, text in checked.items():
        _say(check, text, by_check.pop(check, []))
    for check, findings in by_check.items():
        _say(check, "", findings)
    return 0 if report.is_good else 1


async def _archives(settings: Settings, report: Report, *, deep: bool) -> str:
    if settings.archive_dir is None:
        return f"{report.archived_days} archived days, not looked at"
    count = 0
    async with connected(settings.database_url, settings.database_timeout_s) as one:
        async for day, problem in archives.examine(
            one, settings.archive_dir, deep=deep
        ):
            count += 1
            if problem is not None:
                report.findings.append(Finding("archives", f"{day}: {problem}"))
    return f"{count} archived days{', row by row' if deep else ''}"


def _say(check: str, text: str, findings: Iterable[Finding]) -> None:
    found = list(findings)
    if not found:
        click.echo(f"ok    {check:12} {text}")
    for finding in found[:_MOST_SHOWN]:
        click.echo(f"BAD   {finding}")
    if len(found) > _MOST_SHOWN:
        click.echo(f"BAD   {check}: {len(found) - _MOST_SHOWN} more")


@click.command(
    epilog=example("hubgate usage rebuild --from 2026-01-31 --to 2026-01-31")
)
@ledger
@click.option("--from", "first", type=Day(), required=True, help="First UTC day.")
@click.option("--to", "last", type=Day(), required=True, help="Last UTC day.")
def rebuild(first: date, last: date, **options: str | None) -> None:
    """Make the hourly sums again from the rows."""
    settings = load(options)
    logs.configure("usage_tools", settings)
    done = asyncio.run(sums.rebuild(settings.database_url, first, last))
    click.echo(f"{done.hours} sums by hour and {done.minutes} by minute made")
    for day in done.left:
        click.echo(f"left: {day} is archived; its sums stay as they are")
