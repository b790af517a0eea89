"""Real Valkey and PostgreSQL for the session; a clean environment for every test."""

import asyncio
import os
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
)
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
import structlog
from redis.asyncio import Redis
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from local.engines import running_postgres, running_valkey
from runtime import redis as runtime_redis
from runtime import settings
from runtime.lifecycle import collect_seldom
from runtime.migrations import migrate
from runtime.settings import GrpcTransport

START_DEADLINE_S = 60.0


#: The files of tests/e2e whose tests use the fixture `own`.
BREAK_THEIR_STACK = {
    f"test_{name}.py"
    for name in (
        *("faults", "key_rotation", "ledger", "recovery"),
        *("revocation_in_flight", "shared_limits", "websocket_sessions"),
    )
}

#: Carries gRPC in all tests, and in the stacks that they start.
TRANSPORT = "HUBGATE_GRPC_TRANSPORT"


def pytest_configure() -> None:
    """Tests see no variable of a stack that runs beside them, but for the transport."""
    environ = os.environ  # noqa: TID251 - to empty it
    for name in [name for name in environ if name.startswith("HUBGATE_")]:
        if name != TRANSPORT:
            del environ[name]
    if TRANSPORT in environ:
        settings.DEFAULT_GRPC_TRANSPORT = GrpcTransport(environ[TRANSPORT])
    _log_plainly()
    collect_seldom()


def _log_plainly() -> None:
    """A traceback with colours and all its variables takes seconds."""
    *processors, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[*processors, plain])


class FilesAndStacks(LoadFileScheduling):  # type: ignore[misc]  # untyped
    """A file's tests run in one process, and so do all that use the same stack."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        if not file.startswith("tests/e2e/"):
            return file
        return "broken" if Path(file).name in BREAK_THEIR_STACK else "shared"


def pytest_xdist_make_scheduler(
    config: pytest.Config, log: Producer
) -> LoadFileScheduling:
    return FilesAndStacks(config, log)


def pytest_collection_finish() -> None:
    """What was imported stays: looking through it again and again was 20 % of all."""
    collect_seldom()


@contextmanager
def in_background(engine: AbstractAsyncContextManager[str]) -> Iterator[str]:
    """Keep `engine` running in a thread with a loop of its own.

    Its output must be read all the time, also while no test runs a loop.
    """
    started: list[str | BaseException] = []
    is_started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def hold() -> None:
        try:
            async with engine as url:
                started.append(url)
                is_started.set()
                await stop.wait()
        except BaseException as error:
            started.append(error)
            raise
        finally:
            is_started.set()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(hold())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert is_started.wait(START_DEADLINE_S)
        assert isinstance(started[0], str), started[0]
        yield started[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session's Valkey; keys of different tests must differ."""
    with in_background(running_valkey(tmp_path_factory.mktemp("valkey"))) as url:
        yield url


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session's PostgreSQL, in its first database."""
    folder = tmp_path_factory.mktemp("postgres")
    with in_background(running_postgres(folder, durable=False)) as url:
        yield url


@asynccontextmanager
async def a_database(server: str, template: str = "template1") -> AsyncIterator[str]:
    """A database as `template` is, dropped afterwards; `server` is any other's URL."""
    name = f"test_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(server)
    try:
        await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        base, _, _ = server.partition("?")
        yield base.rpartition("/")[0] + f"/{name}"
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await admin.close()


@pytest.fixture
async def fresh_database_url(database_url: str) -> AsyncIterator[str]:
    """An empty database of the test's own."""
    async with a_database(database_url) as url:
        yield url


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def migrated_template(database_url: str) -> AsyncIterator[str]:
    """The name of a database with everybody's tables: a copy costs a fifth of them."""
    async with a_database(database_url) as url:
        for package in ("usage_sink", "control"):
            await migrate(url, package)
        yield url.rpartition("/")[2]


@pytest.fixture
async def migrated_url(database_url: str, migrated_template: str) -> AsyncIterator[str]:
    """A database of the test's own, with all tables and no row."""
    async with a_database(database_url, migrated_template) as url:
        yield url


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the session's Valkey, emptied before the test."""
    client = runtime_redis.connect(redis_url, timeout_s=2.0)
    await client.flushall()
    yield client
    await client.aclose()
