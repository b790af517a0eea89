"""What the services' own logins can do to what was written: nothing."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg
import pytest
import pytest_asyncio

from control.database import Database
from control.store import Status
from control.store_postgres import PostgresConfigStore
from runtime.clock import SystemClock
from runtime.migrations import migrate
from runtime.postgres import DatabaseUnavailable, connect_pool, open_schema
from tests.builders_ledger import START, a_record, a_store
from tests.conftest import a_database
from usage_sink import archive
from usage_sink.partitions import make_partitions
from usage_sink.store import Written
from usage_sink.tools.connection import connected

pytestmark = pytest.mark.integration

_DEADLINE_S = 30.0
_DAY = date(2026, 10, 1)
_NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)


@dataclass
class Installed:
    """A database that its owner has migrated, and the logins made for it."""

    owner: str

    def url(self, login: str) -> str:
        parts = urlsplit(self.owner)
        place = f"{parts.hostname}:{parts.port}{parts.path}"
        return f"postgresql://{login}:{quote(secret_of(login), safe='')}@{place}"

    async def pool(self, login: str) -> asyncpg.Pool:
        return await connect_pool(
            self.url(login), max_size=2, command_timeout_s=10, connect_deadline_s=5
        )


def secret_of(login: str) -> str:
    """Of characters that a statement or a URL must not be taken in by."""
    return f"{login}'s $$ sëcret/@"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def installed(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installed]:
    async with a_database(database_url) as url:
        await install(url, tmp_path_factory.mktemp("logins"))
        yield Installed(url)


async def install(url: str, folder: Path) -> None:
    files = {}
    for variable, login in (
        ("USAGE_SINK", "hubgate_usage_sink"),
        ("ARCHIVE", "hubgate_archive"),
        ("CONTROL", "hubgate_control"),
    ):
        path = folder / login
        path.write_text(f"{secret_of(login)}\n")
        files[f"HUBGATE_{variable}_PASSWORD_FILE"] = str(path)
    environ = {**os.environ, "HUBGATE_DATABASE_URL": url, **files}  # noqa: TID251 - of a child
    # Twice, and both at once: as in an installation that starts again.
    for _ in range(2):
        children = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", f"{package}.migrate"),
                env={**environ, "PYTHONPATH": str(Path(__file__).parents[3])},
            )
            for package in ("usage_sink", "control")
        ]
        async with asyncio.timeout(_DEADLINE_S):
            assert [await child.wait() for child in children] == [0, 0]


@pytest.fixture
async def sink(installed: Installed) -> AsyncIterator[asyncpg.Pool]:
    """The usage sink's login, with one row written."""
    pool = await installed.pool("hubgate_usage_sink")
    await make_partitions(pool, START.timestamp(), 1)
    assert await a_store(pool).write([a_record()]) == Written(new=1)
    yield pool
    await pool.close()


_WRITTEN_ONCE = {
    "usage_logs": "chain",
    "usage_logs_20261122": "credits",
    "usage_seals": "head",
    "usage_chains": "name",
    "usage_adjustments": "credits",
    "usage_report_ids": "created_at",
}


async def test_a_sink_writes_as_one_who_can_change_nothing(sink: asyncpg.Pool) -> None:
    for table, column in _WRITTEN_ONCE.items():
        for statement in (
            f"UPDATE {table} SET {column} = {column}",
            f"DELETE FROM {table}",
            f"TRUNCATE {table} CASCADE",
            f"DROP TABLE {table} CASCADE",
            f"ALTER TABLE {table} DISABLE TRIGGER ALL",
            f"ALTER TABLE {table} ADD COLUMN mine text",
            f"CREATE RULE mine AS ON INSERT TO {table} DO INSTEAD NOTHING",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await sink.execute(statement)


async def test_a_sink_has_no_way_round(sink: asyncpg.Pool) -> None:
    for statement in (
        "SET session_replication_role = replica",
        """CREATE OR REPLACE FUNCTION usage_logs_refuse_change() RETURNS trigger
           LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'""",
        "DROP FUNCTION usage_logs_refuse_change() CASCADE",
        "SELECT usage_logs_drop_archived('2026-01-01')",
        """INSERT INTO usage_archives (day, file, rows, tokens, credits, sha256)
           VALUES ('2026-01-01', '', 0, 0, 0, '')""",
        "SET ROLE hubgate_archiver",
        "CREATE ROLE other",
        "SELECT * FROM config_revisions",
        "CREATE TABLE usage_logs_mine (id int)",
        "UPDATE usage_chains SET name = 'other'",
        "UPDATE usage_seals SET digest = digest",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sink.execute(statement)


@pytest.mark.usefixtures("sink")
async def test_control_closes_a_silent_node_and_changes_no_other_claim(
    installed: Installed,
) -> None:
    owner = await asyncpg.connect(installed.owner)
    control = await installed.pool("hubgate_control")
    other = await installed.pool("hubgate_archive")
    close = "SELECT usage_close_node($1)"
    try:
        for node, silent in (("gone", "2 minutes"), ("alive", "2 seconds")):
            await owner.execute(
                "INSERT INTO usage_watermarks"
                " VALUES ($1, now(), 'file', 0, false, now() - $2::text::interval)",
                *(node, silent),
            )
        for pool, statement in (
            (control, "UPDATE usage_watermarks SET is_closed = true"),
            (control, "UPDATE usage_watermarks SET complete_through = now()"),
            (control, "DELETE FROM usage_watermarks"),
            (control, "INSERT INTO usage_watermarks SELECT * FROM usage_watermarks"),
            (other, "SELECT usage_close_node('gone')"),
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute(statement)
        # A table of the caller's own does not stand for the ledger's.
        async with control.acquire() as connection:
            await connection.execute("CREATE TEMP TABLE usage_watermarks (node text)")
            closed = [
                await connection.fetchval(close, node) for node in ("gone", "alive")
            ]
        rows = await owner.fetch("SELECT node, is_closed FROM usage_watermarks")
    finally:
        await owner.close()
        await control.close()
        await other.close()

    assert closed == [True, False]
    assert dict(map(tuple, rows)) == {"gone": True, "alive": False}


@pytest.mark.usefixtures("sink")
async def test_control_reads_the_ledger_and_keeps_its_own(
    installed: Installed,
) -> None:
    url = installed.url("hubgate_control")
    database = Database(url, 5.0, SystemClock(), migrates=False)
    assert await database.connect(asyncio.Event())
    store = PostgresConfigStore(database)

    revision = await store.add({"services": []}, author="a", comment="c")
    await store.settle(revision.rev, Status.ACTIVE)

    assert (await store.active()) is not None
    for statement in (
        "INSERT INTO usage_chains (name, node) VALUES ('x', 'x')",
        "UPDATE usage_logs SET credits = 0",
        "DELETE FROM config_revisions",
        "UPDATE config_revisions SET document = '{}'",
        "SELECT usage_logs_make_partition('2026-01-01')",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.pool.execute(statement)
    await database.close()


async def test_an_archiver_drops_what_it_has_archived_and_nothing_else(
    installed: Installed, sink: asyncpg.Pool, tmp_path: Path
) -> None:
    await sink.execute("SELECT usage_logs_make_partition($1)", _DAY)
    await a_store(sink).write([a_record(created_at=_NOON)])
    async with connected(installed.url("hubgate_archive"), 5) as connection:
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute("SELECT usage_logs_drop_archived($1)", _DAY)
        (archived,) = [
            one async for one in archive.archive(connection, tmp_path, [_DAY])
        ]
        for statement in (
            "DROP TABLE usage_logs_20261122",
            "DELETE FROM usage_logs",
            "INSERT INTO usage_chains (name, node) VALUES ('x', 'x')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)

    assert archived.fate is archive.Fate.DROPPED


async def test_without_migrating_a_service_waits_for_the_newest_schema(
    fresh_database_url: str,
) -> None:
    with pytest.raises(DatabaseUnavailable):
        await open_schema(fresh_database_url, "usage_sink", migrates=False)
    await migrate(fresh_database_url, "usage_sink")
    await open_schema(fresh_database_url, "usage_sink", migrates=False)
    connection = await asyncpg.connect(fresh_database_url)
    try:
        await connection.execute(
            "UPDATE alembic_version_usage_sink SET version_num = '0001'"
        )
        with pytest.raises(DatabaseUnavailable, match=r"usage_sink\.migrate"):
            await open_schema(fresh_database_url, "usage_sink", migrates=False)
        await connection.execute(
            "UPDATE alembic_version_usage_sink SET version_num = '9'"
        )
    finally:
        await connection.close()

    await open_schema(fresh_database_url, "usage_sink", migrates=False)
