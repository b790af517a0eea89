"""Whoever changes the ledger behind its back is found, a superuser too."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from runtime.logins import Login, ensure_login
from tests.builders_ledger import START, a_ledger, a_record, a_store
from usage_sink.events import Usage
from usage_sink.findings import Report
from usage_sink.heads import Head, Heads, read
from usage_sink.rebuild import rebuild
from usage_sink.seals import Batch, SealKind, first_head, link, rows_digest
from usage_sink.store_postgres import PostgresUsageStore
from usage_sink.verify import verify

BATCHES = 5
ROWS = 8


@dataclass
class Ledger:
    """A ledger of five batches, its heads outside, and a superuser's connection.

    Who verifies it may only read it.
    """

    url: str
    auditor: str
    pool: asyncpg.Pool
    store: PostgresUsageStore
    heads: Path

    async def tamper(self, *statements: str) -> None:
        """As a superuser does it: no trigger fires."""
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL session_replication_role = replica")
            for statement in statements:
                await connection.execute(statement)

    async def verify(self) -> Report:
        return await verify(self.auditor, self.heads)

    async def findings(self) -> list[str]:
        return [str(finding) for finding in (await self.verify()).findings]


@pytest.fixture
async def ledger(migrated_url: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    heads = tmp_path / "heads.jsonl"
    async with a_ledger(migrated_url) as pool:
        store = a_store(pool, "c-1", heads)
        for number in range(BATCHES):
            at = START + timedelta(seconds=number)
            await store.write([a_record(created_at=at) for _ in range(ROWS)])
        auditor = await an_auditor(migrated_url)
        yield Ledger(migrated_url, auditor, pool, store, heads)


async def an_auditor(owner: str) -> str:
    """The URL of a login that may read the ledger, and nothing else."""
    parts = urlsplit(owner)
    login = Login(
        name=f"auditor_of{parts.path.replace('/', '_')}",
        groups=("hubgate_reader",),
        password="seen-by-nobody",
        package="usage_sink",
    )
    await ensure_login(owner, login)
    place = f"{login.name}:{login.password}@{parts.hostname}:{parts.port}"
    return parts._replace(netloc=place).geturl()


async def test_an_untouched_ledger_is_good(ledger: Ledger) -> None:
    report = await ledger.verify()

    assert report.findings == []
    assert (report.rows, report.seals, report.heads) == (BATCHES * ROWS, *[BATCHES] * 2)


async def test_an_empty_ledger_is_good(migrated_url: str) -> None:
    async with a_ledger(migrated_url):
        assert (await verify(migrated_url, None)).is_good


ONE_OF = "(SELECT id FROM usage_logs WHERE seal = {} ORDER BY id LIMIT 1)"


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        pytest.param(
            f"UPDATE usage_logs SET credits = 7 WHERE id = {ONE_OF.format(3)}",
            "rows: chain c-1 batch 3 has rows that were changed, among 8",
            id="one cell",
        ),
        pytest.param(
            "UPDATE usage_logs SET metadata = jsonb_set(metadata, '{request}', '1') "
            f"WHERE id = {ONE_OF.format(2)}",
            "rows: chain c-1 batch 2 has rows that were changed, among 8",
            id="inside the metadata",
        ),
        pytest.param(
            f"DELETE FROM usage_logs WHERE id = {ONE_OF.format(4)}",
            "rows: chain c-1 batch 4 had 8 rows and has 7",
            id="a deleted row",
        ),
        pytest.param(
            "DELETE FROM usage_logs WHERE seal = 2",
            "rows: chain c-1 batch 2 has lost all of its 8 rows",
            id="a deleted batch",
        ),
        pytest.param(
            "INSERT INTO usage_logs (id, service, tokens, credits, metadata, "
            "created_at, status, outcome, duration_ms, bytes_received, bytes_sent, "
            "usage_source, pricing, node, chain, seal) SELECT gen_random_uuid(), "
            "service, tokens, credits, metadata, created_at - interval '1 hour', "
            "status, outcome, duration_ms, bytes_received, bytes_sent, usage_source, "
            f"pricing, node, chain, seal FROM usage_logs WHERE id = {ONE_OF.format(5)}",
            "rows: chain c-1 batch 5 had 8 rows and has 9",
            id="a back-dated row",
        ),
        pytest.param(
            "UPDATE usage_logs SET created_at = created_at - interval '1 day' "
            f"WHERE id = {ONE_OF.format(1)}",
            "rows: chain c-1 batch 1 is named by 1 rows that it does not cover",
            id="a row moved to another day",
        ),
        pytest.param(
            "UPDATE usage_logs SET seal = 9 WHERE seal = 5",
            "rows: chain c-1 batch 5 has lost all of its 8 rows",
            id="rows under a seal that is none",
        ),
    ],
)
async def test_a_change_of_rows_is_found_and_its_batch_named(
    ledger: Ledger, statement: str, found: str
) -> None:
    await ledger.tamper(statement)

    assert (await ledger.findings())[0] == found


async def test_a_swapped_pair_is_found_in_both_batches(ledger: Ledger) -> None:
    await ledger.tamper(
        "UPDATE usage_logs a SET seal = 3 - (SELECT b.seal FROM usage_logs b "
        "WHERE b.id = a.id) "
        f"WHERE a.id IN ({ONE_OF.format(1)}, {ONE_OF.format(2)})"
    )

    assert (await ledger.findings())[:2] == [
        f"rows: chain c-1 batch {seal} has rows that were changed, among 8"
        for seal in (1, 2)
    ]


async def test_a_seal_made_to_fit_breaks_the_chain(ledger: Ledger) -> None:
    await ledger.tamper(
        "UPDATE usage_logs SET credits = 7 WHERE seal = 3",
        f"UPDATE usage_seals SET digest = (SELECT {rows_digest(SealKind.USAGE)} "
        "FROM usage_logs WHERE seal = 3) WHERE seal = 3",
    )

    assert (await ledger.findings())[0] == "chain: chain c-1 batch 3 has been changed"


async def rewrite_from(ledger: Ledger, first: int) -> None:
    """Everything that can be recomputed inside the database, recomputed."""
    found = await ledger.pool.fetch("SELECT * FROM usage_seals ORDER BY seal")
    previous = first_head("c-1")
    for row in found:
        digest = await ledger.pool.fetchval(
            f"SELECT {rows_digest(SealKind.USAGE)} FROM usage_logs WHERE seal = $1",
            row["seal"],
        )
        batch = Batch(
            *(row["seal"], SealKind.USAGE, row["day"], row["rows"], digest),
            row["sealed_at"],
        )
        (seal,) = link(previous, [batch])
        previous = seal.head
        if row["seal"] >= first:
            await ledger.tamper(
                f"UPDATE usage_seals SET digest = '\\x{digest.hex()}', "
                f"previous = '\\x{seal.previous.hex()}', head = '\\x{seal.head.hex()}' "
                f"WHERE seal = {row['seal']}"
            )


async def test_a_rewritten_suffix_is_found_by_the_heads_outside(
    ledger: Ledger,
) -> None:
    await ledger.tamper("UPDATE usage_logs SET user_id = 'u-9' WHERE seal = 3")
    await rewrite_from(ledger, 3)
    inside = await verify(ledger.auditor, None)
    findings = await ledger.findings()

    # The heads are what finds it: inside, all but the rollups agrees by now.
    assert {finding.check for finding in inside.findings} == {"rollups"}
    assert findings[0] == ("chain: chain c-1 batch 3 is not the one noted outside")


async def test_an_older_dump_is_found_by_the_heads_outside(ledger: Ledger) -> None:
    await ledger.tamper(
        "DELETE FROM usage_logs WHERE seal > 3",
        "DELETE FROM usage_seals WHERE seal > 3",
    )

    assert (await ledger.findings())[0] == (
        "chain: chain c-1 batch 4 was noted outside and is gone: an older copy?"
    )


async def test_a_seal_that_is_gone_is_found_without_heads(ledger: Ledger) -> None:
    await ledger.tamper(
        "DELETE FROM usage_logs WHERE seal = 2",
        "DELETE FROM usage_seals WHERE seal = 2",
    )
    (first, *_) = (await verify(ledger.auditor, None)).findings

    assert str(first) == "chain: chain c-1 batch 3 does not follow the one before"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE usage_hourly SET credits = credits + 1",
        "UPDATE usage_hourly SET ms_more = ms_more + 1",
        "DELETE FROM usage_hourly",
        "UPDATE usage_minutes SET recorded = recorded - 1",
    ],
)
async def test_sums_that_are_not_those_of_the_rows_are_found(
    ledger: Ledger, statement: str
) -> None:
    await ledger.tamper(statement)
    (finding,) = (await ledger.verify()).findings

    assert finding.check == "rollups"
    assert "2026-11-22" in finding.problem


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE usage_logs_20261122 DISABLE TRIGGER refuse_change_of_a_row",
        "DROP TRIGGER refuse_truncate ON usage_logs_20261122",
        "ALTER TABLE usage_seals DISABLE TRIGGER ALL",
    ],
)
async def test_a_guard_that_is_not_in_force_is_found(
    ledger: Ledger, statement: str
) -> None:
    await ledger.tamper(statement)
    (finding,) = (await ledger.verify()).findings

    assert finding.check == "guards"


async def test_every_head_is_noted_outside(ledger: Ledger) -> None:
    inside = await ledger.pool.fetch("SELECT seal, head FROM usage_seals ORDER BY 1")

    assert read(ledger.heads) == [
        Head("c-1", row["seal"], row["head"]) for row in inside
    ]


async def test_a_sink_that_comes_back_goes_on_with_its_chain(ledger: Ledger) -> None:
    again = a_store(ledger.pool, "c-1", ledger.heads)
    await again.write([a_record()])
    report = await ledger.verify()

    assert report.is_good
    assert (report.chains, report.seals) == (2, BATCHES + 1)  # one is "before seals"


async def test_two_sinks_have_two_chains(ledger: Ledger) -> None:
    await a_store(ledger.pool, "c-2", ledger.heads).write([a_record()])
    await ledger.store.write([a_record()])
    report = await ledger.verify()

    assert report.is_good
    assert report.seals == BATCHES + 2


async def test_rows_around_midnight_have_a_seal_for_each_day(ledger: Ledger) -> None:
    midnight = START.replace(hour=0, minute=0, second=0, microsecond=0)
    days = (midnight, midnight + timedelta(days=1, microseconds=-1), midnight)
    await ledger.store.write([a_record(created_at=at) for at in days])
    later = [a_record(created_at=midnight + timedelta(days=d)) for d in (0, 1)]
    await ledger.store.write(later)
    report = await ledger.verify()

    assert report.is_good
    assert report.seals == BATCHES + 3


async def test_rows_of_a_day_without_a_partition_are_covered_too(
    ledger: Ledger,
) -> None:
    far = a_record(created_at=START + timedelta(days=40))
    await ledger.store.write([far])
    good = await ledger.verify()
    await ledger.tamper("DELETE FROM usage_logs_default")

    assert good.is_good
    assert (await ledger.findings())[0] == (
        "rows: chain c-1 batch 6 has lost all of its 1 rows"
    )


async def test_a_day_that_was_dropped_without_an_archive_is_found(
    ledger: Ledger,
) -> None:
    await ledger.tamper("DROP TABLE usage_logs_20261122")

    assert (await ledger.findings())[0] == (
        "rows: chain c-1 batch 1 has lost all of its 8 rows"
    )


async def test_heads_are_thinned_before_they_fill_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "heads.jsonl"
    heads = Heads(path, limit_bytes=3_000_000)
    for at in range(0, 40_000, 1000):
        heads.append(Head("c", seal, bytes(32)) for seal in range(at, at + 1000))
    kept = [head.seal for head in read(path)]

    assert path.stat().st_size < 3_100_000
    assert kept[-20_000:] == list(range(20_000, 40_000))
    assert kept[0] == 0


async def test_a_line_that_was_cut_off_vouches_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "heads.jsonl"
    Heads(path).append([Head("c", 1, bytes(32))])
    path.write_text(path.read_text() + json.dumps({"chain": "c"})[:-4] + "\n[]\n")

    assert [head.seal for head in read(path)] == [1]


async def test_heads_that_can_not_be_kept_stop_nothing(
    ledger: Ledger, tmp_path: Path
) -> None:
    store = a_store(ledger.pool, "c-3", tmp_path / "no" / "such" / "folder")
    written = await store.write([a_record(usage=Usage(a_record().event.usage.source))])

    assert written.new == 1
    assert not Heads(tmp_path / "no" / "file").append([Head("c", 1, b"")])


async def test_sums_can_be_made_again_from_the_rows(ledger: Ledger) -> None:
    await ledger.pool.execute(
        "INSERT INTO usage_minutes (node, minute, admitted) VALUES ('n', $1, 4)", START
    )
    await ledger.tamper(
        "DELETE FROM usage_hourly", "UPDATE usage_minutes SET recorded = 9"
    )
    bad = await ledger.verify()
    rebuilt = await rebuild(ledger.url, START.date(), START.date())

    assert not bad.is_good
    assert (await ledger.verify()).is_good
    assert (rebuilt.hours, rebuilt.left) == (1, ())
    assert await ledger.pool.fetchval("SELECT sum(admitted) FROM usage_minutes") == 4


async def test_sums_of_an_archived_day_are_left_as_they_are(ledger: Ledger) -> None:
    await ledger.pool.execute(
        "INSERT INTO usage_archives (day, file, rows, tokens, credits, sha256, "
        "dropped_at) VALUES ($1, 'f', 40, 0, 0, '', now())",
        START.date(),
    )
    rebuilt = await rebuild(ledger.url, START.date(), START.date())

    assert (rebuilt.hours, rebuilt.left) == (0, (START.date(),))
    assert await ledger.pool.fetchval("SELECT sum(requests) FROM usage_hourly") == 40
