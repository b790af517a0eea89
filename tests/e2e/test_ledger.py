"""Every end of a request is one row, whatever dies meanwhile.

The long campaigns are `python -m bench.chaos`; here is a short one of each kind.
"""

import asyncio
import json
import os
import signal
import socket
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from websockets.sync.client import connect

from hubgate.usage.v1.usage_pb2 import ReportUsageRequest, UsageReport
from hubgate.usage.v1.usage_pb2_grpc import UsageIngestStub
from tests.e2e.journal import Agreement, Journal
from tests.e2e.stack import Stack, a_user, eventually, limits_of

pytestmark = pytest.mark.e2e

RATE = 100.0
ANSWERS = 2 * RATE + 1
SETTLE_S = 30.0


def only_row(stack: Stack, token: str) -> dict[str, Any]:
    """The row of a caller's only request so far."""

    def look() -> dict[str, Any] | None:
        items = stack.get("/api/usage/logs", token).json()["items"]
        found = [one for one in items if one["route"] != "usage"]
        return dict(found[0]) if found else None

    found = eventually(look, 10.0, pause_s=0.2)
    assert found is not None
    return found


def test_a_request_over_the_limit_is_a_row(own: Stack) -> None:
    limit = {"requests": 1, "per": "minute"}
    route = {"prefix": "/api/once", "service": "core-service", "rate_limit": limit}
    own.control("PUT", "routes/once", {"id": "once", **route}).raise_for_status()
    token, another = own.token(), own.token()
    eventually(
        lambda: limits_of(lambda: own.get("/api/once/x", another)) == {"1"}, 10.0
    )
    answers = [own.get("/api/once/x", token) for _ in range(2)]
    own.control("DELETE", "routes/once").raise_for_status()

    def limited() -> dict[str, Any] | None:
        items = own.get("/api/usage/logs", token).json()["items"]
        return next((one for one in items if one["status"] == 429), None)

    row = eventually(limited, 10.0, pause_s=0.2)
    assert answers[1].status_code == 429
    assert row is not None
    assert row["id"] == answers[1].headers["x-request-id"]
    assert (row["outcome"], row["credits"]) == ("limited", 0)


def test_a_websocket_is_a_row_with_its_bytes_both_ways_and_its_length(
    own: Stack,
) -> None:
    token = own.token()
    url = own.gateway.replace("http", "ws") + "/api/ws/echo"
    headers = {"Authorization": f"Bearer {token}"}
    with connect(url, additional_headers=headers, proxy=None, compression=None) as one:
        for _ in range(10):
            one.send("x" * 1000)
            assert one.recv(timeout=5) == "x" * 1000
    row = only_row(own, token)

    assert (row["status"], row["outcome"]) == (101, "ok")
    assert row["bytesReceived"] > 10_000
    assert row["bytesSent"] > 10_000
    assert row["durationMs"] > 0


def test_a_client_that_hangs_up_is_a_row_with_what_had_been_counted(
    own: Stack,
) -> None:
    token = own.token()
    port = urlsplit(own.gateway).port
    slowly = {"event_interval_ms": 200}
    content = {"messages": [{"role": "user", "content": "one two three four"}]}
    call = {"model": "claude-haiku-4-5", "max_tokens": 90, "stream": True, **content}
    body = json.dumps({**call, "hubgate_demo": slowly}).encode()
    head = (
        "POST /api/mcp/anthropic/v1/messages HTTP/1.1\r\nhost: gateway\r\n"
        f"authorization: Bearer {token}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as one:
        one.sendall(head.encode() + body)
        seen = b""
        while b"content_block_delta" not in seen:
            seen += one.recv(4096)
        # Reset, not closed: nothing more is read.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    row = only_row(own, token)

    assert (row["service"], row["model"]) == ("claude", "claude-haiku-4-5")
    assert row["usageSource"] in {"partial", "provider"}
    assert row["inputTokens"] > 0


def test_what_a_trusted_service_reports_is_a_row_once(own: Stack) -> None:
    user, call = a_user(), str(uuid.uuid4())
    report = UsageReport(
        id=call, user_id=user, service="openai", model="gpt-4o-mini", input_tokens=1200
    )
    secret = Path(own.ready["usage_ingest_token_file"]).read_text().strip()
    with grpc.insecure_channel(own.ready["usage_ingest"]) as channel:
        stub: Any = UsageIngestStub(channel)
        for _ in range(3):
            report.occurred_at.GetCurrentTime()
            stub.ReportUsage(
                ReportUsageRequest(reports=[report]),
                metadata=[("authorization", f"Bearer {secret}")],
                timeout=5,
            )
    row = only_row(own, own.token(user))

    assert (row["id"], row["usageSource"], row["inputTokens"]) == (
        *(call, "reported"),
        1200,
    )
    assert row["credits"] > 0


async def campaign(stack: Stack, *kinds: str) -> Agreement:
    """Load, kill -9 of each kind in the middle, and what the ledger says then."""
    user = a_user()
    journal = Journal(stack.gateway, user, stack.token(user, "admin"))
    stop = asyncio.Event()
    loading = asyncio.create_task(journal.load(RATE, stop))
    for kind in kinds:
        already = len(journal.sent)
        await journal.reaches(already + RATE)
        # One that was killed a moment ago may not be there yet.
        await asyncio.to_thread(eventually, stack.is_whole, SETTLE_S)
        os.kill(stack.pids()[kind][0], signal.SIGKILL)
    await journal.reaches(len(journal.sent) + 3 * RATE)
    # Of those, none while Envoy is away, however long it takes to be back.
    await journal.has_answers(ANSWERS)
    stop.set()
    await loading
    return await journal.settled(stack.ready["database_url"], SETTLE_S)


async def test_killed_sinks_and_databases_lose_and_double_nothing(own: Stack) -> None:
    found = await campaign(own, "usage_sink", "postgres", "usage_sink")

    assert found.is_exact, found
    assert not found.unsettled


async def test_a_killed_envoy_leaves_a_row_for_every_admitted_request(
    own: Stack,
) -> None:
    found = await campaign(own, "envoy")

    assert found.is_exact, found
    # What was on its way when it died: fractions of a second of it.
    assert len(found.unsettled) < 2 * RATE


def test_the_ledger_verifies_and_says_how_far_it_is_complete(own: Stack) -> None:
    done = own.command("usage", "verify")
    answer = own.get("/api/usage/logs", own.token(role="admin")).json()

    assert done.returncode == 0, done.stdout + done.stderr
    assert answer["completeThrough"] is not None


def test_a_clients_request_id_is_never_the_rows(own: Stack) -> None:
    token, given = own.token(), str(uuid.uuid4())
    own.get("/api/users/me", token, headers={"x-request-id": given})

    assert only_row(own, token)["id"] != given
