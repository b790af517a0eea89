"""A row is corrected by hand, beside the row and sealed."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import pytest

from runtime.contracts import UsageSource
from tests.builders_ledger import START, a_ledger, a_record, a_store, run
from usage_sink.correction import Figures, correct
from usage_sink.errors import BadCorrection
from usage_sink.events import Usage
from usage_sink.prices import parse
from usage_sink.reprice import LOCK, RepriceBusy, Selection, Signature, reprice
from usage_sink.store_postgres import PostgresUsageStore
from usage_sink.tools.connection import connected
from usage_sink.verify import verify

pytestmark = pytest.mark.integration

CALL = UUID(int=1)
ADA = Signature("ada", "ticket 4711")
BOOK = {
    "version": "v1",
    "prices": [
        {"service": "openai", "model": "*", "from": "2026-01-01", "per_call": "9"}
    ],
}


@dataclass
class Charged:
    """A ledger with one call of 100 tokens and 9 credits."""

    url: str
    connection: asyncpg.Connection
    store: PostgresUsageStore

    async def correct(
        self, tokens: int, credits_: int, id_: UUID = CALL, why: Signature = ADA
    ) -> Figures:
        delta = Figures(tokens, credits_)
        return await correct(self.connection, id_, delta, why, self.store)

    async def sums(self) -> Figures:
        """As the summary tells them."""
        row = await self.connection.fetchrow(
            "SELECT sum(tokens + adjusted_tokens) AS tokens,"
            " sum(credits + adjusted_credits) AS credits FROM usage_hourly_totals"
        )
        assert row is not None
        return Figures(row["tokens"], row["credits"])


@pytest.fixture
async def ledger(migrated_url: str) -> AsyncIterator[Charged]:
    async with (
        a_ledger(migrated_url) as pool,
        connected(migrated_url, 5) as connection,
    ):
        store = a_store(pool)
        usage = Usage(UsageSource.PROVIDER, total=100, input=90, output=10)
        call = a_record(CALL, service="openai", model="m", is_ai=True, usage=usage)
        await store.write([call])
        ledger = Charged(migrated_url, connection, store)
        await rated(ledger)
        yield ledger


async def rated(ledger: Charged, **selection: str) -> int:
    """Credits that rating by the book adds."""
    everything = Selection(
        start=START.replace(hour=0), end=START.replace(hour=23), **selection
    )
    why = Signature("bob", "late price")
    done = await reprice(ledger.connection, everything, parse(BOOK), why, ledger.store)
    return done.credits


async def test_a_refund_is_a_signed_row_of_its_own_and_the_seals_hold(
    ledger: Charged,
) -> None:
    left = await ledger.correct(-40, -5)
    kept = await ledger.connection.fetchrow(
        "SELECT tokens, credits, author FROM usage_adjustments WHERE reason = $1",
        ADA.reason,
    )

    assert left == Figures(60, 4) == await ledger.sums()
    assert kept is not None
    assert tuple(kept) == (-40, -5, "ada")
    assert (await verify(ledger.url, None)).is_good


async def test_a_refund_is_given_once_for_a_reason(ledger: Charged) -> None:
    await ledger.correct(0, -2)

    with pytest.raises(BadCorrection, match="this very reason"):
        await ledger.correct(0, -2)
    assert await ledger.correct(0, -2, why=Signature("ada", "and")) == Figures(100, 5)


@pytest.mark.parametrize(("tokens", "credits_"), [(0, -10), (-101, 0)])
async def test_no_more_is_taken_back_than_there_is(
    ledger: Charged, tokens: int, credits_: int
) -> None:
    with pytest.raises(BadCorrection, match="100 tokens and 9 credits"):
        await ledger.correct(tokens, credits_)


async def test_what_is_no_row_is_not_corrected(ledger: Charged) -> None:
    with pytest.raises(BadCorrection, match="no row"):
        await ledger.correct(0, 1, UUID(int=2))


async def test_new_prices_leave_a_refund_as_it_is(ledger: Charged) -> None:
    await ledger.correct(0, -9)

    assert await rated(ledger) == 0
    assert await ledger.sums() == Figures(100, 0)


async def test_nobody_corrects_while_rows_are_rated(ledger: Charged) -> None:
    async with connected(ledger.url, 5) as another:
        await another.execute("SELECT pg_advisory_lock($1)", LOCK)
        with pytest.raises(RepriceBusy):
            await ledger.correct(0, -1)


async def test_the_command_says_what_is_left_and_needs_a_difference(
    ledger: Charged,
) -> None:
    signed = ("--author", "ada", "--reason", "x", "--database-url", ledger.url)
    done = await run("adjust", str(CALL), "--credits", "-5", *signed)
    nothing = await run("adjust", str(CALL), *signed)

    assert done == (0, f"{CALL}: 100 tokens, 4 credits\n")
    assert nothing[0] == 2
