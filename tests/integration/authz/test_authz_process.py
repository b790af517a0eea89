"""`python -m authz` as Envoy sees it: over its socket, from start to stop."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from envoy.service.auth.v3 import external_auth_pb2 as pb
from redis.asyncio import Redis

from authz.service import PATH
from runtime.clock import SystemClock
from runtime.contracts.redis_keys import blacklist_token_key
from tests.builders import SECRET, a_check_request, a_token

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
DEADLINE_S = 15.0


class Process:
    """A running authz and a client of it."""

    def __init__(self, check: Any) -> None:
        self._check = check
        self.exit_code: int | None = None
        self.output = b""

    async def status(self, token: str) -> int:
        """What the client would get; 200: passes."""
        request = a_check_request({"authorization": f"Bearer {token}"})
        answer = await self._check(request, wait_for_ready=True, timeout=DEADLINE_S)
        return int(answer.denied_response.status.code or 200)


@asynccontextmanager
async def running(folder: Path, **environ: str) -> AsyncIterator[Process]:
    (folder / "secret").write_bytes(SECRET)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "authz"),
        env={
            "PYTHONPATH": str(ROOT),
            "HUBGATE_AUTHZ_LISTEN": f"unix:{folder}/a.sock",
            "HUBGATE_JWT_SECRET_FILE": f"{folder}/secret",
            "HUBGATE_REDIS_TIMEOUT_S": "2",
            **environ,
        },
        stderr=asyncio.subprocess.PIPE,
    )
    async with grpc.aio.insecure_channel(f"unix:{folder}/a.sock") as channel:
        check = channel.unary_unary(
            PATH, pb.CheckRequest.SerializeToString, pb.CheckResponse.FromString
        )
        client = Process(check)
        yield client
    process.terminate()
    async with asyncio.timeout(DEADLINE_S):
        _, client.output = await process.communicate()
    client.exit_code = process.returncode


def token(**changes: Any) -> str:
    now = SystemClock().now()
    return a_token(**{"iat": now, "exp": now + 60, **changes})


async def test_it_decides_audits_and_stops_cleanly(
    tmp_path: Path, redis_url: str, redis_client: Redis
) -> None:
    await redis_client.set(blacklist_token_key("t-2"), 1)
    async with running(tmp_path, HUBGATE_REDIS_URL=redis_url) as authz:
        statuses = [
            await authz.status(token()),
            await authz.status(token(jti="t-2")),
            await authz.status("forged"),
        ]
    lines = [json.loads(line) for line in authz.output.splitlines()]
    audit = [one for one in lines if one["logger"] == "authz.audit"]

    assert statuses == [200, 401, 401]
    assert authz.exit_code == 0
    assert [one["reason"] for one in audit] == [
        "token",
        "revoked",
        "not_three_segments",
    ]
    assert token().encode()[:20] not in authz.output


@pytest.mark.usefixtures("redis_client")
async def test_an_audit_file_has_the_attempts_and_nobody_reads_standard_error(
    tmp_path: Path, redis_url: str
) -> None:
    file = tmp_path / "audit.jsonl"
    setting = {"HUBGATE_AUTHZ_AUDIT_FILE": str(file)}
    async with running(tmp_path, HUBGATE_REDIS_URL=redis_url, **setting) as authz:
        statuses = [await authz.status(one) for one in (token(), "forged")]
    audit = [json.loads(line) for line in file.read_text().splitlines()]

    assert statuses == [200, 401]
    assert [one["verdict"] for one in audit] == ["allow", "deny"]
    assert b"authz.audit" not in authz.output


@pytest.mark.usefixtures("redis_client")
async def test_an_audit_file_that_cannot_be_written_denies_nobody(
    tmp_path: Path, redis_url: str
) -> None:
    setting = {"HUBGATE_AUTHZ_AUDIT_FILE": "/dev/full"}
    async with running(tmp_path, HUBGATE_REDIS_URL=redis_url, **setting) as authz:
        assert [await authz.status(token()) for _ in range(3)] == [200] * 3
    errors = [one for one in authz.output.splitlines() if b"without audit" in one]

    assert authz.exit_code == 0
    assert len(errors) == 1  # it says so once


async def test_without_redis_it_starts_and_denies(tmp_path: Path) -> None:
    nowhere = "redis://127.0.0.1:1/0"
    async with running(tmp_path, HUBGATE_REDIS_URL=nowhere) as authz:
        assert await authz.status(token()) == 503
    assert authz.exit_code == 0


async def test_without_redis_it_lets_pass_when_so_set(tmp_path: Path) -> None:
    nowhere = "redis://127.0.0.1:1/0"
    setting = {"HUBGATE_AUTHZ_ON_REDIS_DOWN": "allow"}
    async with running(tmp_path, HUBGATE_REDIS_URL=nowhere, **setting) as authz:
        assert await authz.status(token()) == 200
        assert await authz.status("forged") == 401


@pytest.mark.usefixtures("redis_client")
async def test_it_journals_what_it_lets_pass(tmp_path: Path, redis_url: str) -> None:
    journal = {"HUBGATE_AUTHZ_JOURNAL_DIR": f"{tmp_path}/journal"}
    async with running(tmp_path, HUBGATE_REDIS_URL=redis_url, **journal) as authz:
        assert [await authz.status(one) for one in (token(), "forged")] == [200, 401]
    (segment,) = (tmp_path / "journal").iterdir()
    (line,) = segment.read_text().splitlines()

    assert authz.exit_code == 0
    assert json.loads(line)["user_id"] == "u-1"


@pytest.mark.usefixtures("redis_client")
async def test_a_journal_that_cannot_be_written_denies_nobody(
    tmp_path: Path, redis_url: str
) -> None:
    (tmp_path / "file").touch()
    journal = {"HUBGATE_AUTHZ_JOURNAL_DIR": f"{tmp_path}/file/journal"}
    async with running(tmp_path, HUBGATE_REDIS_URL=redis_url, **journal) as authz:
        assert [await authz.status(token()) for _ in range(3)] == [200] * 3
    errors = [one for one in authz.output.splitlines() if b"without a journal" in one]

    assert authz.exit_code == 0
    assert len(errors) == 1  # it says so once
