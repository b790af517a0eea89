"""Migrations in process: Alembic, under a lock, in one transaction."""

import importlib
from functools import partial
from pathlib import Path

import asyncpg
from alembic import command, context
from alembic.config import Config
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from runtime.postgres import DatabaseUnavailable, version_table, wrap_errors

#: Serialises migrations of all processes of one database ("hubg" in ASCII).
_LOCK = 0x68756267


async def migrate(dsn: str, package: str, revision: str = "head") -> None:
    """Bring the tables that `package` owns to a version, the newest by default.

    Runs `<package>/migrations` in one transaction under an advisory lock, so that
    processes started together do not clash.

    Raises:
        DatabaseUnavailable: the server went away, or refuses a statement.
    """
    engine = create_async_engine(
        "postgresql+asyncpg://",
        # The address is the driver's to read, as everywhere: `sslmode` and the like.
        async_creator=partial(asyncpg.connect, dsn),
        poolclass=NullPool,
    )
    try:
        with wrap_errors():
            async with engine.begin() as connection:
                await connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK}
                )
                await connection.run_sync(_upgrade, package, revision)
    except SQLAlchemyError as error:
        raise DatabaseUnavailable(str(error)) from error
    finally:
        await engine.dispose()


def run(metadata: MetaData) -> None:
    """All that a package's `migrations/env.py` does, when Alembic loads it."""
    context.configure(
        connection=context.config.attributes["connection"],
        version_table=context.config.attributes["version_table"],
        target_metadata=metadata,
    )
    with context.begin_transaction():
        context.run_migrations()


def _upgrade(connection: Connection, package: str, revision: str) -> None:
    config = Config()
    root = importlib.import_module(package).__file__
    if root is None:
        raise ModuleNotFoundError(f"{package} has no folder of its own")
    config.set_main_option("script_location", str(Path(root).parent / "migrations"))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = version_table(package)
    command.upgrade(config, revision)
