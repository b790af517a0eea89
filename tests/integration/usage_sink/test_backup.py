"""A backup of the ledger verifies as the ledger, and an older one is known as such."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from local import binaries
from local.accounts import find_account, find_way
from local.engines import running_postgres
from tests.builders_ledger import a_ledger, a_record, a_store
from usage_sink.store_postgres import PostgresUsageStore
from usage_sink.verify import verify

pytestmark = pytest.mark.integration

_DEADLINE_S = 60.0


@dataclass
class Ledger:
    """Ten rows in two seals, whose heads are kept in a file."""

    url: str
    heads: Path
    store: PostgresUsageStore

    async def write(self, count: int) -> None:
        await self.store.write([a_record() for _ in range(count)])

    def sibling(self) -> str:
        """Another database of the same server."""
        return f"{self.url.rpartition('/')[0]}/copy_{uuid4().hex}"


@pytest.fixture
async def ledger(migrated_url: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    async with a_ledger(migrated_url) as pool:
        heads = tmp_path / "heads.jsonl"
        one = Ledger(migrated_url, heads, a_store(pool, heads=heads))
        await one.write(5)
        await one.write(5)
        yield one


async def test_a_restored_dump_verifies(ledger: Ledger, tmp_path: Path) -> None:
    async with restored(ledger, await dump(ledger.url, tmp_path)) as copy:
        report = await verify(copy, ledger.heads)

        assert report.findings == []
        assert (report.rows, report.heads) == (10, 2)
        connection = await asyncpg.connect(copy)
        try:
            with pytest.raises(asyncpg.RestrictViolationError):
                await connection.execute("DELETE FROM usage_logs")
        finally:
            await connection.close()


async def test_an_older_dump_is_known_by_the_heads_kept_outside(
    ledger: Ledger, tmp_path: Path
) -> None:
    older = await dump(ledger.url, tmp_path)
    await ledger.write(5)

    async with restored(ledger, older) as copy:
        (found,) = (await verify(copy, ledger.heads)).findings

    assert found.check == "chain"
    assert found.seal == 3
    assert "older" in found.problem


async def test_a_restored_dump_takes_again_what_came_after_it(
    ledger: Ledger, tmp_path: Path
) -> None:
    """Envoy's logs and spools are read again: rows come back, none is doubled."""
    records = [a_record() for _ in range(4)]
    await ledger.store.write(records[:2])
    older = await dump(ledger.url, tmp_path)
    await ledger.store.write(records[2:])

    async with restored(ledger, older) as copy, a_ledger(copy) as pool:
        written = await a_store(pool).write(records)

        assert (written.new, written.known) == (2, 2)
        assert await pool.fetchval("SELECT count(*) FROM usage_logs") == 14


async def test_a_copy_of_the_cluster_verifies(ledger: Ledger, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    await asyncio.to_thread(copy_cluster, ledger.url, folder)
    database = ledger.url.rpartition("/")[2]

    async with running_postgres(folder, durable=False) as url:
        report = await verify(f"{url.rpartition('/')[0]}/{database}", ledger.heads)

    assert report.findings == []
    assert report.rows == 10


async def dump(url: str, folder: Path) -> Path:
    """A dump in the archive format."""
    file = folder / f"{uuid4().hex}.dump"
    await run("pg_dump", "-d", url, "--format=custom", "--no-sync", "-f", str(file))
    return file


@asynccontextmanager
async def restored(ledger: Ledger, file: Path) -> AsyncIterator[str]:
    """A new database with what the dump has; its URL."""
    url = ledger.sibling()
    name = url.rpartition("/")[2]
    connection = await asyncpg.connect(ledger.url)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
        await run("pg_restore", "-d", url, "--exit-on-error", str(file))
        yield url
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()


async def run(program: str, *arguments: str) -> None:
    child = await asyncio.create_subprocess_exec(
        str(binaries.postgres() / program),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(_DEADLINE_S):
        said, _ = await child.communicate()
    assert child.returncode == 0, said.decode()


def copy_cluster(url: str, folder: Path) -> None:
    """As `pg_basebackup` does it, with the password of the original."""
    account = find_account(folder / "data")
    folder.mkdir(mode=0o700)
    if account is not None:
        os.chown(folder, account.uid, account.gid)
    way = find_way(account, binaries.postgres() / "postgres", folder)
    done = way.run(
        str(binaries.postgres() / "pg_basebackup"),
        *("-d", url, "-D", str(folder / "data"), "--checkpoint=fast", "--no-sync"),
        timeout_s=_DEADLINE_S,
    )
    assert done.returncode == 0, done.stdout
    password = folder / "password"
    password.write_text(url.partition("@")[0].rpartition(":")[2])
    if account is not None:
        os.chown(password, account.uid, account.gid)
