"""An archiver that is killed at any step loses nothing and is simply run again."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from tests.builders_ledger import a_ledger, a_record, a_store
from usage_sink import manifest, restore
from usage_sink.tools.connection import connected
from usage_sink.verify import verify

pytestmark = pytest.mark.integration

DAY = date(2026, 10, 1)
ROWS = 4_000
_DEADLINE_S = 60.0
#: Files whose appearance marks how far a run has come.
STEPS = (
    f".{manifest.usage_name(DAY)}.new",
    f".{manifest.seals_name(DAY)}.new",
    manifest.usage_name(DAY),
    manifest.manifest_name(DAY),
)


@dataclass
class Kept:
    """A ledger with ROWS rows on DAY."""

    url: str
    pool: asyncpg.Pool
    folder: Path

    async def held(self) -> int:
        """Rows of DAY in the ledger, or in the archive that it was dropped for."""
        live = await self.pool.fetchval("SELECT count(*) FROM usage_logs")
        away = await self.pool.fetchval(
            "SELECT rows FROM usage_archives WHERE dropped_at IS NOT NULL"
        )
        if away is not None:
            assert live == 0
            return manifest.read(self.folder, DAY).sums.rows
        return int(live)

    async def is_dropped(self) -> bool:
        return bool(
            await self.pool.fetchval(
                "SELECT bool_or(dropped_at IS NOT NULL) FROM usage_archives"
            )
        )

    async def start(self) -> asyncio.subprocess.Process:
        environ = {
            **os.environ,  # noqa: TID251 - of a child
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "HUBGATE_DATABASE_URL": self.url,
            "HUBGATE_ARCHIVE_DIR": str(self.folder),
        }
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "usage_sink.tools"),
            *("archive", "--day", str(DAY)),
            env=environ,
            stdout=asyncio.subprocess.DEVNULL,
        )

    async def kill_at(self, step: str) -> None:
        """Kill a run as soon as `step` is there; one that was faster has ended."""
        marker = self.folder / step
        if not await self.is_dropped():
            marker.unlink(missing_ok=True)
        run = await self.start()
        async with asyncio.timeout(_DEADLINE_S):
            while run.returncode is None and not marker.exists():
                await asyncio.sleep(0.001)
            if run.returncode is None:
                run.kill()
            await run.wait()

    async def unlocked(self) -> None:
        """The server has noticed that the killed one is gone."""
        async with asyncio.timeout(_DEADLINE_S):
            while await self.pool.fetchval(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                " AND database = (SELECT oid FROM pg_database"
                " WHERE datname = current_database())"
            ):
                await asyncio.sleep(0.02)


@pytest.fixture
async def kept(migrated_url: str, tmp_path: Path) -> AsyncIterator[Kept]:
    start = datetime(2026, 10, 1, 12, tzinfo=UTC)
    async with a_ledger(migrated_url) as pool:
        await pool.execute("SELECT usage_logs_make_partition($1)", DAY)
        records = [
            a_record(UUID(int=at + 1), created_at=start + timedelta(seconds=at))
            for at in range(ROWS)
        ]
        store = a_store(pool)
        for at in range(0, ROWS, 500):
            await store.write(records[at : at + 500])
        yield Kept(migrated_url, pool, tmp_path)


async def test_killed_at_each_step_and_run_again(kept: Kept) -> None:
    for step in STEPS:
        await kept.kill_at(step)
        await kept.unlocked()
        assert await kept.held() == ROWS, step

    run = await kept.start()
    async with asyncio.timeout(_DEADLINE_S):
        assert await run.wait() == 0

    assert await kept.held() == ROWS
    assert await kept.pool.fetchval("SELECT count(*) FROM usage_logs") == 0
    assert (await verify(kept.url, None)).findings == []
    async with connected(kept.url, 5) as connection:
        await restore.restore(connection, kept.folder, DAY)
    assert await kept.pool.fetchval("SELECT count(*) FROM usage_logs") == ROWS
    assert (await verify(kept.url, None)).findings == []
