"""PostgreSQL: connections with deadlines, two errors, and the version of a schema."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from types import MappingProxyType

import asyncpg

from runtime.clock import Clock, SystemClock
from runtime.logs import get_logger

log = get_logger(__name__)

RETRY_INTERVAL_S = 0.25
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


@asynccontextmanager
async def connected(
    dsn: str, timeout_s: float, *, command_timeout_s: float | None = None
) -> AsyncIterator[asyncpg.Connection]:
    """A connection of one's own; errors of what is done with it are translated, too.

    Raises:
        DatabaseRejected, DatabaseUnavailable: see `wrap_errors`.
    """
    with wrap_errors():
        connection = await asyncpg.connect(
            dsn, timeout=timeout_s, command_timeout=command_timeout_s
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=timeout_s)


def affected(status: str) -> int:
    """How many rows a command has changed, by what the server said of it."""
    return int(status.rpartition(" ")[2])


async def ping(pool: asyncpg.Pool) -> None:
    """A health check.

    Raises:
        DatabaseUnavailable: no answer.
    """
    with wrap_errors():
        await pool.fetchval("SELECT 1")


async def open_schema(dsn: str, package: str, *, migrates: bool) -> None:
    """Migrate, or see to it that someone else has.

    Raises:
        DatabaseUnavailable: not migrated yet, or no answer.
    """
    if migrates:
        # Here: Alembic and SQLAlchemy are 0.3 s and 30 MB that only this takes.
        from runtime.migrations import migrate  # noqa: PLC0415

        await migrate(dsn, package)
        return
    async with connected(
        dsn, _CHECK_TIMEOUT_S, command_timeout_s=_CHECK_TIMEOUT_S
    ) as connection:
        found = await connection.fetchval(
            f"SELECT version_num FROM {version_table(package)}"  # noqa: S608 - a name of ours
        )
    *older, _newest = revisions(package)
    # A version that is not known here is newer: this process is about to be replaced.
    if found in older:
        raise DatabaseUnavailable(f"run `python -m {package}.migrate` first")


def revisions(package: str) -> list[str]:
    """Versions of the package's schema, oldest first: its migrations' files say."""
    names = (one.name for one in (files(package) / "migrations/versions").iterdir())
    return sorted(name.partition("_")[0] for name in names if name[0].isdecimal())


def version_table(package: str) -> str:
    """Where Alembic notes which migrations of `package` have run."""
    return f"alembic_version_{package}"
