"""`reprice`, `adjust` and `correlate`."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4

import click

from runtime import logs
from runtime.postgres import connect_pool
from runtime.settings import SettingsError
from usage_sink import books
from usage_sink.chain import Chain
from usage_sink.correction import Figures, correct
from usage_sink.correlation import Correlation
from usage_sink.correlation import correlate as compare
from usage_sink.heads import Heads
from usage_sink.prices import PriceBook
from usage_sink.reprice import Repriced, Selection, Signature
from usage_sink.reprice import reprice as rate_anew
from usage_sink.store_postgres import PostgresUsageStore
from usage_sink.tools.connection import connected
from usage_sink.tools.options import chosen, example, ledger, span
from usage_sink.tools.settings import Settings, load

_PRICES = click.option(
    "--prices",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A gateway.yaml or a price book.  [default: the running sink's]",
)
_AUTHOR = click.option("--author", required=True, help="Who answers for it.")
_REASON = click.option(
    "--reason", required=True, help="Why; kept with each adjustment."
)
#: PostgreSQL's integer.
_COUNT = click.IntRange(-(2**31), 2**31 - 1)


@click.command(
    epilog=example("hubgate usage reprice --author ada --reason 'new model' --dry-run")
)
@ledger
@span
@chosen
@_PRICES
@click.option("--all-priced", metavar="VERSION", help="Rows that this version priced.")
@_AUTHOR
@_REASON
@click.option("--dry-run", is_flag=True, help="Say what would come of it.")
def reprice(
    start: datetime,
    end: datetime,
    prices: Path | None,
    *,
    dry_run: bool,
    **options: str | None,
) -> None:
    """Rate rows that have no price by the book; differences become adjustments."""
    signature = Signature(str(options.pop("author")), str(options.pop("reason")))
    selection = Selection(
        start=start,
        end=end,
        service=options.pop("service"),
        model=options.pop("model"),
        price_version=options.pop("all_priced"),
    )
    settings = load(options)
    logs.configure("usage_tools", settings)
    book = _book(settings, prices)
    done = asyncio.run(_reprice(settings, selection, book, signature, dry_run=dry_run))
    _show_repriced(done, book, dry_run=dry_run)


async def _reprice(
    settings: Settings,
    selection: Selection,
    book: PriceBook,
    signature: Signature,
    *,
    dry_run: bool,
) -> Repriced:
    async with connected(settings.database_url, settings.database_timeout_s) as reader:
        if dry_run:
            return await rate_anew(reader, selection, book, signature, None)
        async with _store(settings, "reprice") as store:
            return await rate_anew(reader, selection, book, signature, store)


@asynccontextmanager
async def _store(settings: Settings, name: str) -> AsyncIterator[PostgresUsageStore]:
    file = settings.heads()
    heads = None if file is None else Heads(file)
    # A chain has one writer: each run has its own.
    chain = Chain(f"{name}-{uuid4()}", settings.node_id, heads)
    pool = await connect_pool(
        settings.database_url,
        max_size=1,
        command_timeout_s=60,
        connect_deadline_s=settings.database_timeout_s,
    )
    async with pool:
        yield PostgresUsageStore(pool, chain)


def _show_repriced(done: Repriced, book: PriceBook, *, dry_run: bool) -> None:
    for (service, model), group in sorted(done.groups.items()):
        click.echo(
            f"{service} {model or '-'}: {group.rows} rows, {group.adjusted} to adjust"
            f" by {group.credits} credits, {group.without_price} without a price,"
            f" {group.kept} as they are"
        )
    verb = "would be written" if dry_run else "written"
    count = done.adjusted if dry_run else done.written
    click.echo(f"{count} adjustments {verb}, {done.credits} credits ({book.version})")
    if not dry_run and done.written < done.adjusted:
        click.echo(
            f"{done.adjusted - done.written} were adjusted before for the same reason"
            f" under {book.version}: give these prices another version",
            err=True,
        )
        sys.exit(1)


@click.command(
    epilog=example(
        "hubgate usage adjust REQUEST_ID --credits -5 --author ada --reason 'ticket 7'"
    )
)
@ledger
@click.argument("request_id", type=click.UUID)
@click.option("--credits", "credits_", type=_COUNT, default=0, help="Added to it.")
@click.option("--tokens", type=_COUNT, default=0, help="Added to it.")
@_AUTHOR
@_REASON
def adjust(request_id: UUID, credits_: int, tokens: int, **options: str | None) -> None:
    """Correct one row by hand: a refund, say. `reprice` leaves that as it is."""
    if credits_ == tokens == 0:
        raise click.UsageError("give --credits or --tokens, less or more than 0")
    signature = Signature(str(options.pop("author")), str(options.pop("reason")))
    settings = load(options)
    logs.configure("usage_tools", settings)
    delta = Figures(tokens, credits_)
    left = asyncio.run(_adjust(settings, request_id, delta, signature))
    click.echo(f"{request_id}: {left.tokens} tokens, {left.credits} credits")


async def _adjust(
    settings: Settings, request_id: UUID, delta: Figures, signature: Signature
) -> Figures:
    url, timeout_s = settings.database_url, settings.database_timeout_s
    async with connected(url, timeout_s) as one, _store(settings, "adjust") as store:
        return await correct(one, request_id, delta, signature, store)


@click.command(epilog=example("hubgate usage correlate --from 2026-01-01"))
@ledger
@span
@chosen
@_PRICES
def correlate(
    start: datetime, end: datetime, prices: Path | None, **options: str | None
) -> None:
    """Compare credits that upstreams reported with what the book would charge."""
    selection = Selection(
        start=start, end=end, service=options.pop("service"), model=options.pop("model")
    )
    settings = load(options)
    logs.configure("usage_tools", settings)
    found = asyncio.run(_correlate(settings, selection, _book(settings, prices)))
    for (service, model), group in sorted(found.groups.items()):
        click.echo(
            f"{service} {model or '-'}: {group.rows} rows, {group.differing} differ,"
            f" reported {group.reported} credits, by the book {group.by_book},"
            f" {group.without_price} without a price"
        )
    for one in found.largest:
        click.echo(
            f"  {one.id} {one.created_at.isoformat()}: reported {one.reported},"
            f" by the book {one.by_book}"
        )
    sys.exit(1 if found.differing else 0)


async def _correlate(
    settings: Settings, selection: Selection, book: PriceBook
) -> Correlation:
    async with connected(settings.database_url, settings.database_timeout_s) as one:
        return await compare(one, selection, book)


def _book(settings: Settings, given: Path | None) -> PriceBook:
    path = given or settings.book()
    if path is None:
        raise SettingsError(["no price book: give --prices FILE, or --spool-dir"])
    return books.read(path)
