"""`archive`, `restore` and `export`."""

import asyncio
import io
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import asyncpg
import click

from runtime import lifecycle, logs
from runtime.clock import SystemClock
from runtime.logs import get_logger
from runtime.settings import SettingsError
from usage_sink import archive as archiving
from usage_sink import export as exporting
from usage_sink import parquet
from usage_sink import restore as restoring
from usage_sink.archive import Fate
from usage_sink.errors import UsageSinkError
from usage_sink.tools.connection import connected
from usage_sink.tools.options import Day, Instant, example, ledger
from usage_sink.tools.settings import Settings, load

log = get_logger(__name__)

#: What another run may not meet again.
_PASSING = (UsageSinkError, OSError, TimeoutError, asyncpg.PostgresError)


@click.command(epilog=example("hubgate usage archive --keep-days 400"))
@ledger
@click.option(
    "--keep-days",
    "HUBGATE_LEDGER_KEEP_DAYS",
    metavar="N",
    help="Days that stay.  [default: HUBGATE_LEDGER_KEEP_DAYS]",
)
@click.option("--day", "days", type=Day(), multiple=True, help="These and no others.")
@click.option("--every", type=click.FloatRange(min=1), help="Seconds: until stopped.")
def archive(days: tuple[date, ...], every: float | None, **options: str | None) -> None:
    """Write closed days to Parquet files, read them back, and drop them."""
    settings = load(options)
    logs.configure("usage_tools", settings)
    if not days and settings.ledger_keep_days is None:
        raise SettingsError(
            ["HUBGATE_LEDGER_KEEP_DAYS: say how many, with --keep-days, or name --day"]
        )
    if every is None:
        sys.exit(0 if asyncio.run(_archive(settings, days)) else 1)
    lifecycle.run(lambda stop: _keep_archiving(settings, days, every, stop))


async def _keep_archiving(
    settings: Settings, days: tuple[date, ...], every: float, stop: asyncio.Event
) -> None:
    while True:
        try:
            await _archive(settings, days)
        except _PASSING as error:
            log.warning("not archived; trying again later", why=repr(error))
        if await lifecycle.wait_or_stop(stop, every):
            return


async def _archive(settings: Settings, days: tuple[date, ...]) -> bool:
    """Whether all days that are due are dropped now."""
    folder = settings.archives()
    is_done = True
    async with connected(settings.database_url, settings.database_timeout_s) as one:
        now = datetime.fromtimestamp(SystemClock().now(), UTC)
        due = list(days) or await archiving.days_due(
            one, now, settings.ledger_keep_days or 0
        )
        async for archived in archiving.archive(one, folder, due):
            rows = "" if archived.sums is None else f", {archived.sums.rows} rows"
            why = f": {archived.why}" if archived.why else ""
            click.echo(f"{archived.day} {archived.fate}{rows}{why}")
            is_done &= archived.fate is Fate.DROPPED
    return is_done


@click.command(epilog=example("hubgate usage restore 2026-01-31"))
@ledger
@click.argument("day", type=Day())
def restore(day: date, **options: str | None) -> None:
    """Bring an archived day back, as it was sealed."""
    settings = load(options)
    logs.configure("usage_tools", settings)
    sums = asyncio.run(_restore(settings, day))
    click.echo(f"{day} is back, {sums} rows")


async def _restore(settings: Settings, day: date) -> int:
    folder = settings.archives()
    async with connected(settings.database_url, settings.database_timeout_s) as one:
        return (await restoring.restore(one, folder, day)).sums.rows


@click.command(
    epilog=example(
        "hubgate usage export --from 2026-01-01 --to 2026-01-31 --format csv"
    )
)
@ledger
@click.option("--from", "start", type=Instant(), required=True, help="Included.")
@click.option(
    "--to",
    "end",
    type=Instant(is_end=True),
    required=True,
    help="A day: included; an instant: not.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice([one.value for one in exporting.Format]),
    default=exporting.Format.CSV.value,
    show_default=True,
)
@click.option("--adjustments", is_flag=True, help="The corrections of these rows.")
@click.option("--output", type=click.Path(path_type=Path), help="[default: stdout]")
def export(
    start: datetime,
    end: datetime,
    kind: str,
    output: Path | None,
    *,
    adjustments: bool,
    **options: str | None,
) -> None:
    """Write rows to a file, from live and archived days alike."""
    settings = load(options)
    logs.configure("usage_tools", settings)
    span = exporting.Span(start, end)
    with click.open_file(str(output or "-"), "wb", atomic=output is not None) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        schema = parquet.ADJUSTMENTS_SCHEMA if adjustments else parquet.USAGE_SCHEMA
        with exporting.writer(exporting.Format(kind), file, text, schema) as write:
            count = asyncio.run(_export(settings, span, write, adjustments=adjustments))
        text.detach()
    click.echo(f"{count} rows", err=True)


async def _export(
    settings: Settings,
    span: exporting.Span,
    write: exporting.Write,
    *,
    adjustments: bool,
) -> int:
    async with connected(settings.database_url, settings.database_timeout_s) as one:
        if adjustments:
            return await exporting.export_adjustments(one, span, write)
        return await exporting.export(one, settings.archive_dir, span, write)
