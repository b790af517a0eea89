"""Migrations reach a server as its services do."""

import pytest

from runtime.migrations import migrate
from runtime.postgres import connected, version_table

pytestmark = pytest.mark.integration


async def test_what_an_address_says_of_the_connection_counts_for_migrations_too(
    fresh_database_url: str,
) -> None:
    address = f"{fresh_database_url}?sslmode=prefer&application_name=deploy"

    await migrate(address, "control")

    async with connected(address, 5.0) as connection:
        table = version_table("control")
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 1
