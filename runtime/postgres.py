"""PostgreSQL: a pool with deadlines, two errors, and migrations in process."""

import asyncio
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from runtime.clock import Clock, SystemClock
from runtime.logs import get_logger

log = get_logger(__name__)

RETRY_INTERVAL_S = 0.25
#: Serialises migrations of all processes of one database ("hubg" in ASCII).
_MIGRATION_LOCK = 0x68756267
_CHECK_TIMEOUT_S = 10.0


class DatabaseUnavailable(Exception):
    """PostgreSQL did not answer in time, or refuses connections: try again later."""


class DatabaseRejected(Exception):
    """PostgreSQL refused the data itself: the same data will be refused again."""


@contextmanager
def wrap_errors() -> Iterator[None]:
    """Translate the driver's errors by what a caller can do about them.

    Raises:
        DatabaseRejected: class 22 (data exception) or 23 (integrity violation).
        DatabaseUnavailable: everything else.
    """
    try:
        yield
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
        raise DatabaseRejected(str(error)) from error
    except (
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        OSError,
        TimeoutError,
    ) as error:
        raise DatabaseUnavailable(type(error).__name__) from error


async def connect_pool(
    dsn: str,
    *,
    max_size: int,
    command_timeout_s: float,
    connect_deadline_s: float,
    clock: Clock | None = None,
    server_settings: Mapping[str, str] = MappingProxyType({}),
) -> asyncpg.Pool:
    """A pool, as soon as the server answers.

    Raises:
        DatabaseUnavailable: not within `connect_deadline_s`.
    """
    clock = clock or SystemClock()
    deadline = clock.monotonic() + connect_deadline_s
    while True:
        try:
            with wrap_errors():
                return await asyncpg.create_pool(
                    dsn,
                    min_size=1,
                    max_size=max_size,
                    timeout=command_timeout_s,
                    command_timeout=command_timeout_s,
                    server_settings={
                        "application_name": "hubgate",
                        **server_settings,
                    },
                )
        except DatabaseUnavailable as error:
            if clock.monotonic() >= deadline:
                raise
            log.warning("database not reachable yet", error=str(error))
            await asyncio.sleep(RETRY_INTERVAL_S)


async def ping(pool: asyncpg.Pool) -> None:
    """A health check.

    Raises:
        DatabaseUnavailable: no answer.
    """
    with wrap_errors():
        await pool.fetchval("SELECT 1")


async def migrate(dsn: str, package: str, revision: str = "head") -> None:
    """Bring the tables that `package` owns to a version, the newest by default.

    Runs `<package>/migrations` (Alembic) in one transaction under an advisory lock,
    so that processes started together do not clash.
    """
    engine = create_async_engine(_sqlalchemy_url(dsn), poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(
                text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK}
            )
            await connection.run_sync(_upgrade, package, revision)
    finally:
        await engine.dispose()


async def open_schema(dsn: str, package: str, *, migrates: bool) -> None:
    """Migrate, or see to it that someone else has.

    Raises:
        DatabaseUnavailable: not migrated yet, or no answer.
    """
    if migrates:
        await migrate(dsn, package)
        return
    with wrap_errors():
        connection = await asyncpg.connect(dsn, timeout=_CHECK_TIMEOUT_S)
        try:
            found = await connection.fetchval(
                f"SELECT version_num FROM {version_table(package)}",  # noqa: S608 - a name of ours
                timeout=_CHECK_TIMEOUT_S,
            )
        finally:
            await connection.close(timeout=_CHECK_TIMEOUT_S)
    scripts = ScriptDirectory.from_config(_config(package))
    older = {script.revision for script in scripts.walk_revisions()}
    # A version that is not known here is newer: this process is about to be replaced.
    if found in older - {scripts.get_current_head()}:
        raise DatabaseUnavailable(f"run `python -m {package}.migrate` first")


def version_table(package: str) -> str:
    """Where Alembic notes which migrations of `package` have run."""
    return f"alembic_version_{package}"


def _config(package: str) -> Config:
    config = Config()
    root = importlib.import_module(package).__file__
    if root is None:
        raise ModuleNotFoundError(f"{package} has no folder of its own")
    config.set_main_option("script_location", str(Path(root).parent / "migrations"))
    return config


def _upgrade(connection: Connection, package: str, revision: str) -> None:
    config = _config(package)
    config.attributes["connection"] = connection
    config.attributes["version_table"] = version_table(package)
    command.upgrade(config, revision)


def _sqlalchemy_url(dsn: str) -> str:
    _, separator, rest = dsn.partition("://")
    return f"postgresql+asyncpg{separator}{rest}"
