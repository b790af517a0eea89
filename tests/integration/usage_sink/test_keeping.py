"""Days leave the ledger for Parquet files and come back; nothing is lost between."""

import csv
import io
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
from pyarrow import parquet as pyarrow_parquet

from runtime.contracts import UsageSource
from tests.builders_ledger import a_ledger, a_record, a_store
from usage_sink import archive, manifest, parquet, restore
from usage_sink.archive import Archived, Fate
from usage_sink.errors import ArchiveDamaged, ArchiverBusy, NotArchived
from usage_sink.events import Usage
from usage_sink.export import Format, Span, export, writer
from usage_sink.tools.connection import connected

pytestmark = pytest.mark.integration

DAY = date(2026, 10, 1)
NEXT = date(2026, 10, 2)
NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)
SPAN = Span(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 3, tzinfo=UTC))


@dataclass
class Kept:
    """A ledger with 30 rows on DAY, in three seals, and 5 on NEXT."""

    connection: asyncpg.Connection
    pool: asyncpg.Pool
    folder: Path

    async def archive(self, *days: date) -> list[Archived]:
        return [
            one async for one in archive.archive(self.connection, self.folder, days)
        ]

    async def rows(self, day: date | None = None) -> list[tuple[Any, ...]]:
        found = await self.pool.fetch(
            "SELECT * FROM usage_logs"
            " WHERE $1::date IS NULL OR (created_at AT TIME ZONE 'UTC')::date = $1"
            " ORDER BY created_at, id",
            day,
        )
        return [tuple(row) for row in found]

    async def exported(self, kind: Format, span: Span = SPAN) -> bytes:
        target = io.BytesIO()
        text = io.TextIOWrapper(target, "utf-8", newline="", write_through=True)
        with writer(kind, target, text) as write:
            await export(self.connection, self.folder, span, write)
        return target.getvalue()


@pytest.fixture
async def kept(migrated_url: str, tmp_path: Path) -> AsyncIterator[Kept]:
    async with (
        a_ledger(migrated_url) as pool,
        connected(migrated_url, 5) as connection,
    ):
        for day in (DAY, NEXT):
            await pool.execute("SELECT usage_logs_make_partition($1)", day)
        store = a_store(pool)
        for batch in range(3):
            await store.write([a_call(10 * batch + at) for at in range(10)])
        await store.write([a_call(100 + at, NOON + timedelta(1)) for at in range(5)])
        yield Kept(connection, pool, tmp_path)


def a_call(number: int, at: datetime = NOON) -> Any:
    return a_record(
        UUID(int=number + 1),
        created_at=at + timedelta(seconds=number),
        service="openai",
        model="gpt-5 ü\"',",
        is_ai=True,
        usage=Usage(UsageSource.PROVIDER, 12, 10, 2, 0, None),
        reported_credits=Decimal("1.50"),
        user_id=None if number % 2 else "u-1",
    )


async def test_an_archived_day_is_gone_from_the_ledger_and_whole_in_its_file(
    kept: Kept,
) -> None:
    before = await kept.rows(DAY)

    (archived,) = await kept.archive(DAY)

    assert archived.fate is Fate.DROPPED
    assert await kept.rows(DAY) == []
    assert len(await kept.rows(NEXT)) == 5
    table = pyarrow_parquet.read_table(kept.folder / manifest.usage_name(DAY))
    assert sorted(table["id"].to_pylist()) == sorted(UUID(str(r[0])) for r in before)
    assert table["tokens"].to_pylist() == [12] * 30
    assert table["user_id"].null_count == 15


async def test_the_manifest_says_what_is_in_the_files(kept: Kept) -> None:
    await kept.archive(DAY)

    said = json.loads((kept.folder / manifest.manifest_name(DAY)).read_text())

    assert said["sums"] == {"rows": 30, "tokens": 360, "credits": 60}
    assert said["seals"] == 3
    noted = await kept.pool.fetchrow("SELECT * FROM usage_archives")
    assert noted is not None
    assert (noted["rows"], noted["tokens"], noted["credits"]) == (30, 360, 60)
    assert noted["sha256"] == said["sha256"]


async def test_a_restored_day_is_what_it_was(kept: Kept) -> None:
    before = await kept.rows()
    await kept.archive(DAY, NEXT)
    assert await kept.rows() == []

    await restore.restore(kept.connection, kept.folder, DAY)
    await restore.restore(kept.connection, kept.folder, NEXT)

    assert await kept.rows() == before
    with pytest.raises(asyncpg.RestrictViolationError):
        await kept.pool.execute("UPDATE usage_logs SET credits = 0")
    with pytest.raises(asyncpg.RestrictViolationError):
        await kept.pool.execute("TRUNCATE usage_logs_20261001")


async def test_a_restored_day_is_archived_again_only_by_name(kept: Kept) -> None:
    far = datetime(2027, 1, 1, tzinfo=UTC)
    await kept.archive(DAY)
    await restore.restore(kept.connection, kept.folder, DAY)

    assert DAY not in await archive.days_due(kept.connection, far, 30)
    (again,) = await kept.archive(DAY)

    assert again.fate is Fate.DROPPED
    await restore.restore(kept.connection, kept.folder, DAY)
    assert len(await kept.rows(DAY)) == 30


async def test_an_archived_day_is_never_written_again(kept: Kept) -> None:
    await kept.archive(DAY)
    file = kept.folder / manifest.usage_name(DAY)
    content = file.read_bytes()

    (again,) = await kept.archive(DAY)

    assert (again.fate, again.sums) == (Fate.DROPPED, manifest.Sums(30, 360, 60))
    assert file.read_bytes() == content
    assert await kept.pool.fetchval("SELECT rows FROM usage_archives") == 30


async def test_days_are_due_by_their_age_alone(kept: Kept) -> None:
    now = datetime(2026, 10, 12, 0, 30, tzinfo=UTC)

    assert await archive.days_due(kept.connection, now, 10) == [DAY]
    assert await archive.days_due(kept.connection, now, 9) == [DAY, NEXT]
    assert await archive.days_due(kept.connection, now, 11) == []


class TestWhatIsNotDropped:
    async def test_a_day_that_was_tampered_with(self, kept: Kept) -> None:
        await tamper(kept, "UPDATE usage_logs SET credits = 0 WHERE id = $1")

        (refused, fine) = await kept.archive(DAY, NEXT)

        assert refused.fate is Fate.REFUSED
        assert "seal 2" in refused.why
        assert len(await kept.rows(DAY)) == 30
        assert not (kept.folder / manifest.manifest_name(DAY)).exists()
        assert fine.fate is Fate.DROPPED

    async def test_a_day_that_lacks_a_row(self, kept: Kept) -> None:
        await tamper(kept, "DELETE FROM usage_logs WHERE id = $1")

        (refused,) = await kept.archive(DAY)

        assert refused.fate is Fate.REFUSED
        assert "seal 2" in refused.why

    async def test_a_day_that_is_not_closed(self, kept: Kept) -> None:
        today = datetime.now(UTC).date()  # noqa: TID251 - the database's own clock
        await kept.pool.execute("SELECT usage_logs_make_partition($1)", today)

        (kept_back,) = await kept.archive(today)

        assert kept_back.fate is Fate.KEPT
        assert "not closed" in kept_back.why

    async def test_a_day_with_rows_outside_its_partition(self, kept: Kept) -> None:
        lonely = date(2026, 9, 1)
        at = datetime(2026, 9, 1, 5, tzinfo=UTC)
        await a_store(kept.pool).write([a_call(500, at)])

        (kept_back,) = await kept.archive(lonely)

        assert kept_back.fate is Fate.REFUSED
        assert len(await kept.rows(lonely)) == 1

    async def test_a_day_that_a_query_holds(self, kept: Kept) -> None:
        async with kept.pool.acquire() as reader, reader.transaction():
            await reader.execute("LOCK TABLE usage_logs IN ACCESS SHARE MODE")
            (kept_back,) = await kept.archive(DAY)

        assert kept_back.fate is Fate.KEPT
        (dropped,) = await kept.archive(DAY)
        assert dropped.fate is Fate.DROPPED

    async def test_nothing_while_another_archiver_works(self, kept: Kept) -> None:
        async with kept.pool.acquire() as other:
            await other.execute("SELECT pg_advisory_lock($1)", archive.LOCK)
            with pytest.raises(ArchiverBusy):
                await kept.archive(DAY)
            await other.execute("SELECT pg_advisory_unlock($1)", archive.LOCK)


class TestARunThatDied:
    async def test_before_the_files_had_their_names(self, kept: Kept) -> None:
        draft = kept.folder / f".{manifest.usage_name(DAY)}.new"
        draft.write_bytes(b"half a file")

        (archived,) = await kept.archive(DAY)

        assert archived.fate is Fate.DROPPED
        assert not draft.exists()

    async def test_after_the_files_and_before_the_note(self, kept: Kept) -> None:
        for name in (manifest.usage_name(DAY), manifest.manifest_name(DAY)):
            (kept.folder / name).write_bytes(b"of an earlier run")

        await kept.archive(DAY)

        await restore.restore(kept.connection, kept.folder, DAY)
        assert len(await kept.rows(DAY)) == 30

    async def test_after_the_note_and_before_the_drop(self, kept: Kept) -> None:
        async with kept.pool.acquire() as reader, reader.transaction():
            await reader.execute("LOCK TABLE usage_logs IN ACCESS SHARE MODE")
            await kept.archive(DAY)
        late = a_call(77)
        await a_store(kept.pool).write([late])

        (archived,) = await kept.archive(DAY)

        assert archived.fate is Fate.DROPPED
        await restore.restore(kept.connection, kept.folder, DAY)
        assert len(await kept.rows(DAY)) == 31


class TestARestoreIsRefused:
    async def test_when_the_file_was_changed(self, kept: Kept) -> None:
        await kept.archive(DAY)
        file = kept.folder / manifest.usage_name(DAY)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)

        with pytest.raises(ArchiveDamaged):
            await restore.restore(kept.connection, kept.folder, DAY)

        assert await kept.rows(DAY) == []

    async def test_when_file_and_manifest_were_changed_together(
        self, kept: Kept
    ) -> None:
        await kept.archive(DAY)
        (kept.folder / manifest.usage_name(DAY)).rename(kept.folder / "old.parquet")
        file = kept.folder / manifest.usage_name(DAY)
        table = pyarrow_parquet.read_table(kept.folder / "old.parquet")
        pyarrow_parquet.write_table(table.slice(1), file)
        path = kept.folder / manifest.manifest_name(DAY)
        said = json.loads(path.read_text())
        said["sha256"] = parquet.sha256(file)
        path.write_text(json.dumps(said))

        with pytest.raises(ArchiveDamaged):
            await restore.restore(kept.connection, kept.folder, DAY)

    async def test_when_the_day_is_there(self, kept: Kept) -> None:
        with pytest.raises(NotArchived):
            await restore.restore(kept.connection, kept.folder, DAY)

    async def test_when_the_files_are_away(self, kept: Kept, tmp_path: Path) -> None:
        await kept.archive(DAY)

        with pytest.raises(ArchiveDamaged):
            await restore.restore(kept.connection, tmp_path / "elsewhere", DAY)


class TestAnExport:
    @pytest.mark.parametrize("kind", list(Format))
    async def test_is_the_same_from_the_ledger_and_from_its_archive(
        self, kept: Kept, kind: Format
    ) -> None:
        live = await kept.exported(kind)
        await kept.archive(DAY)

        assert await kept.exported(kind) == live
        assert len(live) > 100

    async def test_has_every_row_with_its_figures(self, kept: Kept) -> None:
        await kept.archive(DAY)

        text = (await kept.exported(Format.CSV)).decode()
        lines = (await kept.exported(Format.NDJSON)).decode().splitlines()

        rows = list(csv.DictReader(io.StringIO(text)))
        assert len(rows) == len(lines) == 35
        assert sum(int(row["credits"]) for row in rows) == 70
        assert {row["model"] for row in rows} == {"gpt-5 ü\"',"}
        first = json.loads(lines[0])
        assert first["created_at"] == "2026-10-01T12:00:00+00:00"
        assert first["metadata"]["billing"]["totalCost"] == 1.5

    async def test_takes_instants_within_days(self, kept: Kept) -> None:
        await kept.archive(DAY)
        span = Span(NOON + timedelta(seconds=5), NOON + timedelta(seconds=8))

        lines = (await kept.exported(Format.NDJSON, span)).splitlines()

        assert len(lines) == 3

    async def test_misses_no_archived_day_silently(self, kept: Kept) -> None:
        await kept.archive(DAY)
        (kept.folder / manifest.usage_name(DAY)).unlink()

        with pytest.raises(ArchiveDamaged):
            await kept.exported(Format.CSV)


async def tamper(kept: Kept, statement: str) -> None:
    """What only a superuser can: change a row of the second seal."""
    async with kept.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        assert await connection.execute(statement, UUID(int=15)) in {
            "UPDATE 1",
            "DELETE 1",
        }
