"""A connection to the ledger, for as long as a tool runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg


@asynccontextmanager
async def connected(dsn: str, timeout_s: float) -> AsyncIterator[asyncpg.Connection]:
    """A connection of one's own; queries over a whole day may take long."""
    connection = await asyncpg.connect(
        dsn,
        timeout=timeout_s,
        command_timeout=3600,
        server_settings={"application_name": "hubgate-ledger-tools", "timezone": "UTC"},
    )
    try:
        yield connection
    finally:
        await connection.close(timeout=timeout_s)
