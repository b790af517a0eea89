"""The ledger's own commands against a running stack, and who its services log in as."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.e2e.stack import Stack, a_user, eventually

pytestmark = pytest.mark.e2e

_DEADLINE_S = 20.0
_SPAN = ("--from", "2020-01-01", "--to", "2099-01-01T00:00:00Z")


def rows_of(stack: Stack, user: str, count: int) -> list[dict[str, Any]]:
    """The user's rows in an export, as soon as there are so many."""
    deadline = time.monotonic() + _DEADLINE_S  # noqa: TID251 - of the test
    while True:
        said = stack.command("usage", "export", *_SPAN, "--format", "ndjson")
        assert said.returncode == 0, said.stderr
        rows = [json.loads(line) for line in said.stdout.splitlines()]
        own = [row for row in rows if row["user_id"] == user]
        if len(own) >= count or time.monotonic() > deadline:  # noqa: TID251 - of the test
            return own


def test_what_was_asked_is_exported_and_verifies(stack: Stack) -> None:
    user = a_user()
    token = stack.token(user)
    ids = [stack.get("/api/users/me", token).headers["x-request-id"] for _ in range(3)]

    rows = rows_of(stack, user, len(ids))
    checked = stack.command("usage", "verify")

    assert sorted(row["id"] for row in rows) == sorted(ids)
    assert {row["service"] for row in rows} == {"core-service"}
    assert checked.returncode == 0, checked.stdout
    assert "heads kept outside" in checked.stdout


def test_a_users_own_export_verifies_beside_its_manifest(
    stack: Stack, tmp_path: Path
) -> None:
    user = a_user()
    token = stack.token(user)
    id_ = stack.get("/api/users/me", token).headers["x-request-id"]
    rows_of(stack, user, 1)
    answer = stack.get("/api/usage/export?format=csv", token)
    snapshot = answer.headers["x-usage-snapshot"]
    manifest = stack.get(f"/api/usage/export/manifest?snapshot={snapshot}", token)
    (tmp_path / "usage.csv").write_bytes(answer.content)
    (tmp_path / "usage.csv.manifest.json").write_bytes(manifest.content)
    checked = stack.command("usage", "verify", str(tmp_path / "usage.csv"))

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert id_ in answer.text
    assert manifest.json()["rows"] == len(answer.text.splitlines()) - 1 >= 1


def test_an_export_under_pseudonyms_names_nobody_and_verifies(
    stack: Stack, tmp_path: Path
) -> None:
    user, file = a_user(), tmp_path / "usage.csv"
    stack.get("/api/users/me", stack.token(user))
    rows_of(stack, user, 1)
    told = (*("--from", "2026-01-01", "--to", "2029-12-31"), "--output", str(file))
    said = stack.command("usage", "export", *told, "--pseudonymize")
    checked = stack.command("usage", "verify", str(file))

    assert said.returncode == 0, said.stderr
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert user not in file.read_text()
    assert len(file.read_text().splitlines()) > 1


def test_a_dry_run_uses_the_running_stacks_prices(stack: Stack) -> None:
    told = ("--author", "ada", "--reason", "none", "--dry-run")

    said = stack.command("usage", "reprice", *told)

    assert said.returncode == 0, said.stderr
    assert said.stdout.endswith("credits (2026-01)\n")


def test_a_node_that_lives_is_shown_and_not_closed(stack: Stack) -> None:
    def nodes() -> list[list[str]]:
        """Each that has ever claimed anything."""
        said = stack.command("usage", "nodes")
        assert said.returncode == 0, said.stderr
        return [line.split() for line in said.stdout.splitlines()[1:]]

    eventually(nodes, _DEADLINE_S)
    signed = ("--author", "ada", "--reason", "none")
    refused = stack.command("usage", "close-node", "local", *signed)
    (local,) = nodes()

    assert refused.returncode == 1
    assert "local is alive: its Envoy is connected" in refused.stderr
    assert (local[0], local[-2:]) == ("local", ["False", "-"])


def test_a_command_says_how_it_is_used(stack: Stack) -> None:
    said = stack.command("usage", "archive", "--help")

    assert said.returncode == 0
    assert "--keep-days" in said.stdout
    assert "hubgate usage archive --keep-days 400" in said.stdout


async def test_services_log_in_as_themselves_and_not_as_the_owner(
    stack: Stack,
) -> None:
    asked = "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = $1"
    connection = await asyncpg.connect(stack.ready["database_url"])
    try:
        async with asyncio.timeout(_DEADLINE_S):
            found = {row[0] for row in await connection.fetch(asked, "hubgate")}
    finally:
        await connection.close()

    assert found == {"hubgate_control", "hubgate_usage_sink"}
    environs = [
        Path(f"/proc/{pid}/environ").read_bytes()
        for kind in ("authz", "usage_sink", "control")
        for pid in stack.pids()[kind]
    ]
    owner = stack.ready["database_url"].encode()
    assert len(environs) == 4
    assert not [environ for environ in environs if owner in environ]
