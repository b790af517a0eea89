"""A service reports usage over gRPC; the answer comes when it is on disk."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import pytest

from hubgate.usage.v1.usage_pb2 import ReportUsageRequest, UsageReport
from hubgate.usage.v1.usage_pb2_grpc import UsageIngestStub
from runtime.clock import FakeClock, SystemClock
from runtime.grpc_server import GrpcServer
from runtime.metrics import Metrics
from runtime.settings import Address
from usage_sink.__main__ import start_ingest
from usage_sink.ingest import UsageIngestService
from usage_sink.segments import Kind
from usage_sink.settings import Settings
from usage_sink.spool import Bounds, Spool

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
TOKEN = "a-long-secret"
BEARER = [("authorization", f"Bearer {TOKEN}")]
DEADLINE_S = 10.0
MAX_BYTES = 1024 * 1024


def request(count: int = 1, **changes: str) -> ReportUsageRequest:
    made = ReportUsageRequest()
    for _ in range(count):
        fields: dict[str, Any] = {"user_id": "u-1", "service": "sora2", **changes}
        report = UsageReport(id=str(uuid4()), **fields)
        report.occurred_at.FromDatetime(NOW)
        made.reports.append(report)
    return made


@asynccontextmanager
async def serving(
    folder: Path, *, token: str | None = TOKEN, bounds: Bounds | None = None
) -> AsyncIterator[tuple[UsageIngestStub, Spool]]:
    clock, metrics = FakeClock(now=NOW.timestamp()), Metrics()
    spool = Spool(folder, bounds or Bounds(), clock, metrics)
    service = UsageIngestService(spool, clock, metrics, token)
    server = GrpcServer(Address(host="127.0.0.1"), service.methods(), metrics)
    await server.start()
    try:
        target = f"127.0.0.1:{server.port}"
        async with grpc.aio.insecure_channel(target) as channel:
            yield UsageIngestStub(channel), spool
    finally:
        await server.stop(0.0)
        await spool.close()


async def test_what_is_answered_is_in_the_spool_as_it_came(tmp_path: Path) -> None:
    sent = request(1000)
    async with serving(tmp_path) as (stub, _):
        answer = await stub.ReportUsage(sent, metadata=BEARER, timeout=DEADLINE_S)

    spool = Spool(tmp_path, Bounds(), FakeClock(), Metrics())
    try:
        chunk = await spool.read(MAX_BYTES)
    finally:
        await spool.close()
    assert chunk is not None
    (entry,) = chunk.entries
    assert (answer.accepted, entry.kind) == (1000, Kind.REPORT)
    assert ReportUsageRequest.FromString(entry.payload) == sent


@pytest.mark.parametrize(
    ("token", "given"),
    [
        (TOKEN, []),
        (TOKEN, [("authorization", "Bearer wrong")]),
        (TOKEN, [("authorization", f"Basic {TOKEN}")]),
        (TOKEN, [("authorization", TOKEN)]),
        (TOKEN, [("authorization", f"Bearer {TOKEN} ")]),
        (None, BEARER),
        (None, [("authorization", "Bearer ")]),
        ("", [("authorization", "Bearer ")]),
    ],
    ids=[
        "no token",
        "wrong token",
        "wrong scheme",
        "no scheme",
        "a space more",
        "not switched on",
        "not switched on, nothing given",
        "an empty secret",
    ],
)
async def test_without_the_token_nothing_is_taken(
    tmp_path: Path, token: str | None, given: list[tuple[str, str]]
) -> None:
    async with serving(tmp_path, token=token) as (stub, spool):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.ReportUsage(request(), metadata=given, timeout=DEADLINE_S)

        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert spool.oldest_pending() is None


async def test_a_bad_field_is_named_and_nothing_is_taken(tmp_path: Path) -> None:
    async with serving(tmp_path) as (stub, spool):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.ReportUsage(
                request(user_id=""), metadata=BEARER, timeout=DEADLINE_S
            )

        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert raised.value.details() == "reports[0].user_id: needed"
        assert spool.oldest_pending() is None


async def test_the_process_listens_where_it_is_told_with_the_secret_of_a_file(
    tmp_path: Path,
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    socket = f"unix:{tmp_path}/ingest"
    settings = Settings.from_environ(
        {
            "HUBGATE_USAGE_SINK_LISTEN": f"unix:{tmp_path}/sink",
            "HUBGATE_USAGE_SINK_SPOOL_DIR": str(tmp_path / "spool"),
            "HUBGATE_USAGE_INGEST_LISTEN": socket,
            "HUBGATE_USAGE_INGEST_TOKEN_FILE": str(tmp_path / "token"),
            "HUBGATE_REDIS_URL": "redis://127.0.0.1:1",
            "HUBGATE_DATABASE_URL": "postgres://nowhere",
        }
    )
    metrics, clock = Metrics(), SystemClock()
    async with AsyncExitStack() as closing:
        spool = Spool(tmp_path / "spool", Bounds(), clock, metrics)
        closing.push_async_callback(spool.close)
        await start_ingest(settings, spool, metrics, closing)
        async with grpc.aio.insecure_channel(socket) as channel:
            sent = request()
            sent.reports[0].occurred_at.GetCurrentTime()
            stub = UsageIngestStub(channel)
            answer = await stub.ReportUsage(sent, metadata=BEARER, timeout=DEADLINE_S)

    assert answer.accepted == 1
    assert metrics.value("hubgate_usage_reports_total", result="accepted") == 1


async def test_a_full_spool_says_send_it_again(tmp_path: Path) -> None:
    small = Bounds(total_bytes=4096, segment_bytes=2048)
    async with serving(tmp_path, bounds=small) as (stub, _):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.ReportUsage(request(100), metadata=BEARER, timeout=DEADLINE_S)

        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
