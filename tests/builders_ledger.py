"""Records and ledgers for tests."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from runtime.clock import Clock, FakeClock
from runtime.contracts.access_log import LOG_FIELDS
from runtime.postgres import connect_pool
from usage_sink import otlp
from usage_sink.chain import Chain
from usage_sink.events import UsageEvent, read
from usage_sink.heads import Heads
from usage_sink.partitions import make_partitions
from usage_sink.prices import NO_PRICES
from usage_sink.records import Origin, UsageRecord
from usage_sink.store_postgres import PostgresUsageStore

_TOOL_DEADLINE_S = 60.0
START = datetime(2026, 11, 22, 9, 30, 15, 541760, tzinfo=UTC)


def a_record(id_: UUID | None = None, **changes: Any) -> UsageRecord:
    event = read({"id": str(id_ or uuid4()), "start": "1795339815.541760"})
    assert isinstance(event, UsageEvent)
    event = replace(event, **{"user_id": "u-1", **changes})
    return UsageRecord(event, NO_PRICES.charge(event), Origin("node-1", "local", "1"))


def a_request(
    *records: tuple[str, dict[str, str]],
    fields: str | None = None,
    node: str = "node-1",
) -> Any:
    """Of OTLP: records of a body and attributes of their own."""
    request: Any = otlp.ExportRequest()
    logs = request.resource_logs.add()
    logs.resource.attributes.add(key="node_name").value.string_value = node
    if fields is not None:
        logs.resource.attributes.add(key=LOG_FIELDS).value.string_value = fields
    scope = logs.scope_logs.add()
    for body, attributes in records:
        record = scope.log_records.add()
        record.body.string_value = body
        for key, value in attributes.items():
            record.attributes.add(key=key).value.string_value = value
    return request


@asynccontextmanager
async def a_ledger(url: str) -> AsyncIterator[asyncpg.Pool]:
    """A migrated database, given the partitions around START."""
    pool = await connect_pool(
        url, max_size=4, command_timeout_s=10, connect_deadline_s=5
    )
    try:
        await make_partitions(pool, START.timestamp(), 1)
        yield pool
    finally:
        await pool.close()


def a_store(
    pool: asyncpg.Pool,
    name: str | None = None,
    heads: Path | None = None,
    clock: Clock | None = None,
) -> PostgresUsageStore:
    """A store with a chain of its own, or the chain of that name; at START."""
    kept = None if heads is None else Heads(heads)
    chain = Chain(name or str(uuid4()), "node-1", kept)
    return PostgresUsageStore(pool, chain, clock or FakeClock(START.timestamp()))


async def run(*arguments: str) -> tuple[int | None, str]:
    """The status of a command of the ledger's, and what it said, also on stderr."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "usage_sink.tools", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},  # noqa: TID251 - of a child
    )
    async with asyncio.timeout(_TOOL_DEADLINE_S):
        said, _ = await child.communicate()
    return child.returncode, said.decode()
