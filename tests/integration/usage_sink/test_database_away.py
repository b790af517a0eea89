"""The database lets nobody in, or dies, and is there again."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from local.engines import running_postgres
from tests.integration.usage_sink.sink_bench import (
    NO_REDIS,
    a_message,
    a_sink,
    an_export,
    attributes,
    ids,
    ids_of,
    rows_are,
    rows_are_at,
    until,
)

pytestmark = pytest.mark.integration


async def test_at_the_start_exports_are_taken_and_written_when_it_is_there(
    tmp_path: Path, fresh_database_url: str, admin: asyncpg.Connection
) -> None:
    await close_door(admin, fresh_database_url)
    async with a_sink(tmp_path, fresh_database_url, NO_REDIS) as sink:
        await sink.export(an_export(attributes()))
        components = (await sink.health())["components"]
        assert components["spool"] == "ok"
        assert components["database"] != "ok"

        await open_door(admin, fresh_database_url)
        await rows_are_at(fresh_database_url, 1)

        assert (await sink.health())["status"] == "ok"


async def test_later_nothing_is_refused_lost_or_doubled(
    tmp_path: Path, fresh_database_url: str, admin: asyncpg.Connection
) -> None:
    entries = [attributes() for _ in range(20)]
    streamed = [attributes() for _ in range(3)]
    async with a_sink(tmp_path, fresh_database_url, NO_REDIS) as sink:
        await sink.export(an_export(*entries[:10]))
        await rows_are_at(fresh_database_url, 10)
        await close_door(admin, fresh_database_url)
        await sink.export(an_export(*entries))
        await sink.stream(iter([a_message(*streamed, node="node-1")]))
        await until(sink.has_failed_to_write)

        await open_door(admin, fresh_database_url)
        database = await asyncpg.connect(fresh_database_url)
        await rows_are(database, 23)

    assert sorted(await ids(database)) == sorted(ids_of([*entries, *streamed]))
    await database.close()


async def test_a_stop_does_not_wait_for_it_and_the_next_start_loads(
    tmp_path: Path, fresh_database_url: str, admin: asyncpg.Connection
) -> None:
    entry = attributes()
    async with a_sink(tmp_path, fresh_database_url, NO_REDIS) as sink:
        await sink.export(an_export(attributes()))
        await rows_are_at(fresh_database_url, 1)
        await close_door(admin, fresh_database_url)
        await sink.export(an_export(entry))
        await until(sink.has_failed_to_write)
    await open_door(admin, fresh_database_url)

    async with a_sink(tmp_path, fresh_database_url, NO_REDIS):
        database = await asyncpg.connect(fresh_database_url)
        await rows_are(database, 2)
        assert entry["id"] in await ids(database)
        await database.close()


@pytest.fixture
async def admin(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_a_database_killed_under_load_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "postgres"
    sent: list[dict[str, str]] = []
    is_enough = asyncio.Event()

    async with (
        running_postgres(folder) as url,
        a_sink(tmp_path, url, NO_REDIS) as sink,
    ):

        async def send() -> None:
            while not is_enough.is_set():
                entries = [attributes() for _ in range(3)]
                await sink.export(an_export(*entries))
                sent.extend(entries)

        async def is_noticed() -> bool:
            """Killed again when it is back before anything was to be written."""
            if await is_answering(url):
                pid_file = (folder / "data" / "postmaster.pid").read_text()
                os.kill(int(pid_file.split()[0]), signal.SIGKILL)
            return bool(await sink.has_failed_to_write())

        await sink.export(an_export(attributes()))
        await rows_are_at(url, 1)
        sending = [asyncio.create_task(send()) for _ in range(2)]
        await until(is_noticed)
        is_enough.set()
        await asyncio.gather(*sending)
        await until(lambda: is_answering(url))
        await rows_are_at(url, len(sent) + 1)

        database = await asyncpg.connect(url)
        written = await ids(database)
        await database.close()
    assert set(ids_of(sent)) < set(written)


async def is_answering(url: str) -> bool:
    try:
        database = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError):
        return False
    await database.close()
    return True


async def close_door(admin: asyncpg.Connection, url: str) -> None:
    name = url.rpartition("/")[2]
    await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
        name,
    )


async def open_door(admin: asyncpg.Connection, url: str) -> None:
    name = url.rpartition("/")[2]
    await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
