"""Logins of the services: each may do what its groups may, and nothing of the owner's.

Made by whoever migrates, who must be allowed to create roles. A login's password is
set anew each time, so that a changed secret is in force after the next migration.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from runtime.postgres import connected, version_table

_TIMEOUT_S: Final = 30.0
#: Roles belong to the whole server: processes of several databases may be at it.
_LOCK: Final = 0x68756272

# Every attribute is said: the role may have been there before, with more.
_MAKE: Final = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') THEN
        CREATE ROLE {name} {attributes};
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""
_ALTER: Final = "ALTER ROLE {name} LOGIN NOCREATEDB NOCREATEROLE PASSWORD {password}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """`grants` are statements that give what its `groups` do not have."""

    name: str
    groups: Sequence[str]
    password: str
    package: str
    grants: Sequence[str] = ()


async def ensure_login(dsn: str, login: Login) -> None:
    """Make the login, or give it its password and grants again.

    Raises:
        DatabaseUnavailable: no answer, or `dsn` may not create roles.
    """
    async with (
        connected(dsn, _TIMEOUT_S, command_timeout_s=_TIMEOUT_S) as connection,
        connection.transaction(),
    ):
        await _ensure(connection, login)


async def _ensure(connection: asyncpg.Connection, login: Login) -> None:
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    for group in login.groups:
        await connection.execute(_MAKE.format(name=group, attributes="NOLOGIN"))
    await connection.execute(_MAKE.format(name=login.name, attributes="LOGIN"))
    # PASSWORD takes no parameter: the server quotes it.
    password = await connection.fetchval(
        "SELECT quote_literal($1::text)", login.password
    )
    await connection.execute(_ALTER.format(name=login.name, password=password))
    await connection.execute(f"GRANT {', '.join(login.groups)} TO {login.name}")
    # By this it sees that its schema is there.
    versions = version_table(login.package)
    await connection.execute(f"GRANT SELECT ON {versions} TO {login.name}")
    for statement in login.grants:
        await connection.execute(statement)
