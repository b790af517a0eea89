"""The OpenAPI document is true: whatever is asked, the answer is one that it names."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from runtime.clock import SystemClock
from runtime.migrations import migrate
from tests.builders import a_token
from tests.builders_control import ADMIN_TOKEN
from tests.builders_ledger import a_ledger, a_record, a_store
from tests.integration.control.test_control_process import environ, running

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
__all__ = ["environ"]  # a fixture

SCHEMATHESIS = Path(sys.executable).with_name("st")
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance"
)
#: Cases of each operation and phase.
EXAMPLES = "4"


@pytest.fixture
async def address(environ: dict[str, str]) -> AsyncIterator[str]:
    """A control with a few rows in its ledger."""
    now = datetime.fromtimestamp(SystemClock().now(), UTC)
    url = environ["HUBGATE_DATABASE_URL"]
    await migrate(url, "usage_sink")
    async with a_ledger(url) as pool:
        await a_store(pool).write(
            [
                a_record(created_at=now - timedelta(hours=hours), user_id=user)
                for hours in range(6)
                for user in ("u-1", "u-2")
            ]
        )
    async with running(environ) as client:
        yield str(client.base_url).rstrip("/")


async def failures(address: str, folder: Path, *options: str) -> str:
    """What a run of every phase complains of; nothing when it does not."""
    # It is not ours: it may go about without being measured.
    environ = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - of a child process
        if not name.startswith("COVERAGE_")
    }
    process = await asyncio.create_subprocess_exec(
        *(str(SCHEMATHESIS), "run", f"{address}/openapi.json"),
        *("--phases", "examples,coverage,fuzzing,stateful", "--checks", CHECKS),
        *("--max-examples", EXAMPLES, "--seed", "1", "--generation-database", "none"),
        *("--suppress-health-check", "all", "--warnings", "off", "--no-color"),
        *("--exclude-path", "/console", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env=environ,
    )
    output, _ = await process.communicate()
    return "" if process.returncode == 0 else output.decode()


@pytest.mark.parametrize("role", ["user", "manager", "admin"])
async def test_whatever_is_asked_of_the_usage_api_is_answered_as_documented(
    address: str, tmp_path: Path, role: str
) -> None:
    token = f"Authorization: Bearer {a_token(role=role)}"
    found = await failures(
        address, tmp_path, "-H", token, "--include-path-regex", "^/api/usage"
    )

    assert not found, found


async def test_whatever_nobody_asks_is_answered_as_documented(
    address: str, tmp_path: Path
) -> None:
    found = await failures(address, tmp_path)

    assert not found, found


async def test_whatever_an_operator_asks_is_answered_as_documented(
    address: str, tmp_path: Path
) -> None:
    """But for changes of the configuration: each would ask Envoy whether it is good."""
    token = f"Authorization: Bearer {ADMIN_TOKEN}"
    ours = (
        "^/(api/usage|health|metrics|"
        "control/v1/(alerts|audit|explain|nodes|users|tokens|revocations))"
    )
    found = await failures(address, tmp_path, "-H", token, "--include-path-regex", ours)

    assert not found, found


async def test_the_document_names_every_usage_endpoint(address: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        document = (await client.get(f"{address}/openapi.json")).json()

    usage = {path for path in document["paths"] if path.startswith("/api/usage/")}
    assert usage >= {
        *("/api/usage/logs", "/api/usage/users/{user_id}/logs", "/api/usage/summary"),
        *("/api/usage/analytics", "/api/usage/export", "/api/usage/me"),
        "/api/usage/completeness",
    }
