"""Rows without a price get one later, by corrections that add up."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from runtime.clock import SystemClock
from runtime.contracts import UsageSource
from tests.builders_ledger import START, a_ledger, a_record, a_store, run
from usage_sink import books
from usage_sink.correlation import correlate
from usage_sink.errors import BadPriceBook
from usage_sink.events import Usage
from usage_sink.prices import PriceBook, parse
from usage_sink.reprice import (
    LOCK,
    RepriceBusy,
    Repriced,
    Selection,
    Signature,
    reprice,
)
from usage_sink.store_postgres import PostgresUsageStore
from usage_sink.tools.connection import connected
from usage_sink.verify import verify

pytestmark = pytest.mark.integration

ADA = Signature("ada", "the price list came late")
ALL = Selection(start=START - timedelta(days=1), end=START + timedelta(days=1))
_DEADLINE_S = 60.0


def a_book(version: str, per_1000: str, since: str = "2026-01-01") -> PriceBook:
    return parse(
        {
            "version": version,
            "prices": [
                {
                    "service": "openai",
                    "model": "new-*",
                    "from": since,
                    "input_per_1000": per_1000,
                    "output_per_1000": "0",
                }
            ],
        }
    )


def a_call(number: int, model: str = "new-1", **changes: Any) -> Any:
    return a_record(
        UUID(int=number),
        service="openai",
        model=model,
        is_ai=True,
        **{
            "usage": Usage(UsageSource.PROVIDER, total=1000, input=900, output=100),
            **changes,
        },
    )


@dataclass
class Rated:
    """Three rows of a model that had no price, and two others."""

    url: str
    connection: asyncpg.Connection
    store: PostgresUsageStore

    async def reprice(
        self,
        book: PriceBook,
        *,
        signature: Signature = ADA,
        dry: bool = False,
        **selection: Any,
    ) -> Repriced:
        return await reprice(
            self.connection,
            Selection(start=ALL.start, end=ALL.end, **selection),
            book,
            signature,
            None if dry else self.store,
        )

    async def credits(self) -> int:
        """Of rows and corrections together."""
        return int(
            await self.connection.fetchval(
                "SELECT (SELECT sum(credits) FROM usage_logs)"
                " + coalesce((SELECT sum(credits) FROM usage_adjustments), 0)"
            )
        )


@pytest.fixture
async def ledger(migrated_url: str) -> AsyncIterator[Rated]:
    async with (
        a_ledger(migrated_url) as pool,
        connected(migrated_url, 5) as connection,
    ):
        store = a_store(pool)
        calls = [a_call(number) for number in (1, 2, 3)]
        unknown = a_call(4, "other")
        free = a_record(UUID(int=5), service="core-service")
        await store.write([*calls, unknown, free])
        yield Rated(migrated_url, connection, store)


async def test_rows_without_a_price_are_rated_by_corrections(ledger: Rated) -> None:
    done = await ledger.reprice(a_book("v1", "2"))

    assert (done.written, done.credits) == (3, 6)  # 900 tokens: 1.8, rounded up
    group = done.groups[("openai", "other")]
    assert (group.rows, group.without_price) == (1, 1)
    rows = await ledger.connection.fetch("SELECT * FROM usage_adjustments")
    assert {(row["author"], row["reason"]) for row in rows} == {
        ("ada", "the price list came late")
    }
    assert json.loads(rows[0]["metadata"])["billing"]["totalCost"] == "1.8"
    assert await ledger.credits() == 6
    assert (await verify(ledger.url, None)).findings == []


async def test_a_dry_run_says_the_same_and_writes_nothing(ledger: Rated) -> None:
    said = await ledger.reprice(a_book("v1", "2"), dry=True)

    assert (said.adjusted, said.credits, said.written) == (3, 6, 0)
    assert await ledger.credits() == 0
    done = await ledger.reprice(a_book("v1", "2"))
    assert (done.adjusted, done.credits) == (said.adjusted, said.credits)


@pytest.mark.parametrize("reason", ["the price list came late", "once more"])
async def test_again_adds_nothing_whatever_the_reason(
    ledger: Rated, reason: str
) -> None:
    await ledger.reprice(a_book("v1", "2"))

    again = await ledger.reprice(a_book("v1", "2"), signature=Signature("bob", reason))

    assert (again.adjusted, again.written) == (0, 0)
    assert await ledger.credits() == 6


async def test_a_later_book_corrects_the_correction(ledger: Rated) -> None:
    await ledger.reprice(a_book("v1", "2"))

    done = await ledger.reprice(a_book("v2", "1"))

    assert done.credits == -3
    assert await ledger.credits() == 3


async def test_a_price_from_after_the_call_is_not_for_it(ledger: Rated) -> None:
    done = await ledger.reprice(a_book("v1", "2", since="2026-12-01"))

    assert done.adjusted == 0


async def test_what_was_priced_is_rated_anew_only_by_its_version(
    ledger: Rated,
) -> None:
    record = a_call(6)
    priced = type(record)(
        record.event, a_book("v1", "2").charge(record.event), record.origin
    )
    await ledger.store.write([priced])

    assert (await ledger.reprice(a_book("v2", "4"), price_version="v0")).adjusted == 0
    done = await ledger.reprice(a_book("v2", "4"), price_version="v1")

    assert (done.adjusted, done.credits) == (1, 2)


async def test_one_run_at_a_time(ledger: Rated) -> None:
    async with connected(ledger.url, 5) as other:
        await other.execute("SELECT pg_advisory_lock($1)", LOCK)

        with pytest.raises(RepriceBusy):
            await ledger.reprice(a_book("v1", "2"))


async def test_reported_credits_are_compared_with_the_book(ledger: Rated) -> None:
    await ledger.store.write(
        [
            a_call(10 + number, reported_credits=Decimal(reported))
            for number, reported in enumerate(("2", "5", "1.8", "40"))
        ]
    )

    found = await correlate(ledger.connection, ALL, a_book("v1", "2"))

    group = found.groups[("openai", "new-1")]
    assert (group.rows, group.differing) == (4, 2)
    assert (group.reported, group.by_book) == (49, 8)
    assert [(one.reported, one.by_book) for one in found.largest] == [(40, 2), (5, 2)]


class TestABookInAFile:
    def test_is_that_of_a_configuration_with_exact_rates(self, tmp_path: Path) -> None:
        file = tmp_path / "gateway.yaml"
        file.write_text(
            "version: 1\nprices_version: v9\nprices:\n"
            "- {service: s, model: m, from: 2026-01-01, input_per_1000: 0.1}\n"
        )

        book = books.read(file)

        price = book.find("s", "m", datetime(2026, 6, 1, tzinfo=UTC))
        assert price is not None
        assert price.input == Decimal("0.1")
        assert book.version == "v9"

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("prices: 3", id="no list"),
            pytest.param("- 1", id="no object"),
            pytest.param("{", id="no YAML"),
            pytest.param("prices: [{service: s}]", id="a bad line"),
        ],
    )
    def test_is_refused_when_it_is_none(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "gateway.yaml"
        file.write_text(text)

        with pytest.raises(BadPriceBook):
            books.read(file)

    def test_is_refused_when_it_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(BadPriceBook):
            books.read(tmp_path / "none.json")


class TestTheCommands:
    async def test_say_what_would_come_of_it_and_then_do_it(
        self, ledger: Rated, tmp_path: Path
    ) -> None:
        prices = tmp_path / "prices.json"
        line = {"service": "openai", "model": "*", "from": "2026-01-01"}
        line["input_per_1000"] = "2"
        prices.write_text(json.dumps({"version": "v1", "prices": [line]}))
        told = ("reprice", "--author", "ada", "--reason", "late")
        place = ("--database-url", ledger.url, "--spool-dir", str(tmp_path))

        dry = await run(*told, *place, "--dry-run")
        done = await run(*told, *place)
        checked = await run("verify", *place)

        assert dry[0] == done[0] == 0
        assert "4 adjustments would be written, 8 credits (v1)" in dry[1]
        assert "4 adjustments written, 8 credits (v1)" in done[1]
        assert checked[0] == 0, checked
        assert "ok    adjustments  4 adjustments" in checked[1]
        assert "1 heads kept outside" in checked[1]

    @pytest.mark.parametrize("kind", ["csv", "ndjson", "parquet"])
    async def test_export_the_corrections(
        self, ledger: Rated, tmp_path: Path, kind: str
    ) -> None:
        await ledger.reprice(a_book("v1", "2"))
        file = tmp_path / "corrections"
        span = ("--from", str(START.date()), "--to", str(START.date()))

        said = await run(
            *("export", "--database-url", ledger.url, *span, "--adjustments"),
            *("--format", kind, "--output", str(file)),
        )

        assert said == (0, "3 rows\n")
        content = file.read_bytes()
        assert content[:4] == b"PAR1" or content.count(b"the price list") == 3

    async def test_name_the_first_bad_batch(self, ledger: Rated) -> None:
        async with ledger.connection.transaction():
            await ledger.connection.execute(
                "SET LOCAL session_replication_role = replica"
            )
            await ledger.connection.execute("UPDATE usage_logs SET tokens = 1")

        status, said = await run("verify", "--database-url", ledger.url)

        assert status == 1
        first = next(line for line in said.splitlines() if line.startswith("BAD"))
        assert "batch 1" in first

    async def test_keep_days_in_files_and_bring_them_back(
        self, ledger: Rated, tmp_path: Path
    ) -> None:
        old = datetime(2026, 10, 1, 8, tzinfo=UTC)
        await ledger.connection.execute("SELECT usage_logs_make_partition($1)", old)
        await ledger.store.write([a_call(20, created_at=old)])
        place = ("--database-url", ledger.url, "--archive-dir", str(tmp_path))
        span = ("--from", "2026-10-01", "--to", "2026-10-01")
        # Of this day alone, whenever this runs.
        today = datetime.fromtimestamp(SystemClock().now(), UTC).date()
        days = str((today - date(2026, 10, 15)).days)

        archived = await run("archive", *place, "--keep-days", days)
        checked = await run("verify", *place, "--deep")
        exported = await run("export", *place, *span, "--format", "ndjson")
        (tmp_path / "usage-2026-10-01.json").rename(tmp_path / "away")
        missed = await run("verify", *place)
        (tmp_path / "away").rename(tmp_path / "usage-2026-10-01.json")
        restored = await run("restore", *place, "2026-10-01")

        assert archived == (0, "2026-10-01 archived and dropped, 1 rows\n")
        assert "1 archived days, row by row" in checked[1]
        assert json.loads(exported[1].splitlines()[0])["model"] == "new-1"
        assert missed[0] == 1
        assert "BAD   archives: 2026-10-01" in missed[1]
        assert restored == (0, "2026-10-01 is back, 1 rows\n")
        assert (await run("verify", *place))[0] == 0

    @pytest.mark.parametrize(
        "arguments",
        [
            pytest.param(("archive",), id="no number of days"),
            pytest.param(("restore", "2026-01-01"), id="no folder"),
            pytest.param(("correlate",), id="no prices"),
            pytest.param(("export",), id="no time"),
        ],
    )
    async def test_say_what_is_missing(self, arguments: tuple[str, ...]) -> None:
        status, said = await run(
            *arguments, "--database-url", "postgresql://127.0.0.1:1/x"
        )

        assert status == 2
        assert "Traceback" not in said
