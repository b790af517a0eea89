"""A real Envoy, authz and sink: whatever dies, each admitted request has one row."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from authz.audit import Audit
from authz.authorizer import Authorizer, OnRedisDown
from authz.journal import Journal, Limits
from authz.service import AuthzService
from runtime.clock import FakeClock, SystemClock
from runtime.contracts import HEADER_REQUEST_ID
from runtime.grpc_server import GrpcServer
from runtime.identity.blacklist import MemoryBlacklist
from runtime.metrics import Metrics
from runtime.settings import Address
from tests.builders import NOW, a_token, a_verifier
from tests.integration.control.envoy_bench import Bench, a_bench
from usage_sink.__main__ import serve
from usage_sink.settings import Settings

pytestmark = pytest.mark.e2e

DEADLINE_S = 30.0
POLL_S = 0.05
BEARER = {"authorization": f"Bearer {a_token()}"}


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(DEADLINE_S):
        while not (found := await look()):
            await asyncio.sleep(POLL_S)
    return found


class Room:
    """Envoy, authz with its journal, and a ledger; a sink when it is started."""

    def __init__(
        self, folder: Path, bench: Bench, database: asyncpg.Connection
    ) -> None:
        self.folder = folder
        self.bench = bench
        self.database = database

    @asynccontextmanager
    async def sink(self, url: str, redis: str, **more: str) -> AsyncIterator[None]:
        settings = Settings.from_environ(
            {
                "HUBGATE_NODE_ID": "envoy-1",
                "HUBGATE_USAGE_SINK_LISTEN": f"unix:{self.folder}/sink.sock",
                "HUBGATE_USAGE_SINK_SPOOL_DIR": f"{self.folder}/spool",
                "HUBGATE_USAGE_SINK_PRICES_WAIT_S": "0",
                "HUBGATE_DATABASE_URL": url,
                "HUBGATE_REDIS_URL": redis,
                "HUBGATE_AUTHZ_JOURNAL_DIR": f"{self.folder}/journal",
                "HUBGATE_ACCESS_LOG_FILE": f"{self.folder}/access.jsonl",
                "HUBGATE_ENVOY_ADMIN": f"127.0.0.1:{self.bench.envoy.port}",
                "HUBGATE_UNSETTLED_AFTER_S": "1",
                **more,
            }
        )
        stop = asyncio.Event()
        serving = asyncio.create_task(serve(settings, stop))
        try:
            yield
        finally:
            stop.set()
            async with asyncio.timeout(DEADLINE_S):
                await serving

    async def get(self, path: str = "/echo") -> str:
        """The id of a request that was answered."""
        answer = await self.bench.client.get(path, headers=BEARER)
        assert answer.status_code == 200
        return answer.headers[HEADER_REQUEST_ID]

    async def rows(self) -> dict[str, str]:
        """Outcome by id; the key of the table forbids two rows of one instant only."""
        try:
            found = await self.database.fetch("SELECT id, outcome FROM usage_logs")
        except asyncpg.UndefinedTableError:
            return {}
        assert all(count == 1 for count in Counter(row["id"] for row in found).values())
        return {str(row["id"]): row["outcome"] for row in found}

    async def has(self, ids: set[str]) -> bool:
        return ids <= set(await self.rows())

    async def admitted(self) -> int:
        found = await self.database.fetchval(
            "SELECT sum(admitted) FROM usage_minutes WHERE node = 'envoy-1'"
        )
        return int(found or 0)

    async def has_counted(self, admitted: int) -> bool:
        return await self.admitted() >= admitted

    async def watermark(self) -> Any:
        try:
            return await self.database.fetchrow(
                "SELECT * FROM usage_watermarks WHERE node = 'envoy-1'"
            )
        except asyncpg.UndefinedTableError:
            return None

    async def is_complete(self, since: float) -> bool:
        mark = await self.watermark()
        return mark is not None and mark["complete_through"].timestamp() > since


@asynccontextmanager
async def a_room(
    folder: Path, database_url: str, **deployment: Any
) -> AsyncIterator[Room]:
    async with AsyncExitStack() as closing:
        metrics = Metrics()
        journal = Journal(
            folder / "journal", SystemClock(), metrics, Limits(segment_s=0.3)
        )
        authorizer = Authorizer(
            verifier=a_verifier(FakeClock(NOW)),
            blacklist=MemoryBlacklist(),
            on_redis_down=OnRedisDown.DENY,
            metrics=metrics,
        )
        audit = Audit({}, SystemClock(), lambda _: None)
        service = AuthzService(authorizer, metrics, audit, journal)
        server = GrpcServer(
            Address(host="127.0.0.1", port=0), service.methods(), metrics
        )
        await server.start()
        closing.push_async_callback(server.stop, 0.0)
        closing.callback(journal.close)
        authz = (Address(host="127.0.0.1", port=server.port),)
        bench = await closing.enter_async_context(
            a_bench(folder, authz=authz, **deployment)
        )
        database = await asyncpg.connect(database_url)
        closing.push_async_callback(database.close)
        yield Room(folder, bench, database)


async def test_each_request_of_a_killed_envoy_has_one_row(
    tmp_path: Path, fresh_database_url: str, redis_url: str
) -> None:
    socket = (Address(path=f"{tmp_path}/sink.sock"),)
    async with (
        a_room(tmp_path, fresh_database_url, usage_sink=socket) as room,
        room.sink(fresh_database_url, redis_url),
    ):
        early = {await room.get() for _ in range(20)}
        held = room.bench.client.stream("GET", "/held", headers=BEARER)
        async with held as answer:
            in_flight = answer.headers[HEADER_REQUEST_ID]
            late = set[str]()
            for _ in range(15):
                late |= set(await asyncio.gather(*(room.get() for _ in range(4))))
            await room.bench.envoy.end(signal.SIGKILL)
        await room.bench.envoy.start()
        room.bench.upstream.release.set()
        after = {await room.get() for _ in range(5)}
        ended = SystemClock().now()
        every = {*early, *late, in_flight, *after}
        await until(lambda: room.has(every))
        await until(lambda: room.is_complete(ended))
        # Counted when authz's segment is taken in: by then each row may be there.
        await until(lambda: room.has_counted(len(every)))
        rows = await room.rows()
        admitted = await room.admitted()
        unsettled = await room.database.fetchrow(
            "SELECT * FROM usage_logs WHERE id = $1", UUID(in_flight)
        )

    assert unsettled is not None
    assert set(rows) == every
    assert rows[in_flight] == "unsettled"
    assert {rows[id_] for id_ in {*early, *after}} == {"ok"}
    assert {rows[id_] for id_ in late} <= {"ok", "unsettled"}
    # More only when Envoy asked again: this loop may be late with its answers.
    assert admitted <= len(every) + len(late)
    assert (unsettled["user_id"], unsettled["route"]) == ("u-1", "held")
    assert (unsettled["node"], unsettled["tokens"]) == ("envoy-1", 0)
    assert unsettled["billable"] is False


async def test_what_the_stream_never_brought_comes_from_the_file_log(
    tmp_path: Path, fresh_database_url: str, redis_url: str
) -> None:
    small = {"HUBGATE_ACCESS_LOG_ROTATE_BYTES": "4000"}
    async with (
        a_room(tmp_path, fresh_database_url) as room,  # Envoy sends to nobody
        room.sink(fresh_database_url, redis_url, **small),
    ):
        answered = {await room.get() for _ in range(10)}
        await until(lambda: is_rotated(tmp_path))
        answered |= {await room.get() for _ in range(10)}
        refused = await room.bench.client.get("/echo")
        assert refused.status_code == 401
        answered.add(refused.headers[HEADER_REQUEST_ID])
        ended = SystemClock().now()
        await until(lambda: room.has(answered))
        await until(lambda: room.is_complete(ended))
        await until(lambda: is_tidied(tmp_path))
        await room.bench.envoy.end()

    async with connected(fresh_database_url) as database:
        rows = await database.fetch("SELECT id, outcome, node, status FROM usage_logs")
        mark = await database.fetchrow("SELECT * FROM usage_watermarks")
    assert mark is not None
    assert {str(row["id"]) for row in rows} == answered
    assert Counter(row["status"] for row in rows) == {200: 20, 401: 1}
    assert {row["node"] for row in rows} == {"envoy-1"}
    # Envoy and the sink have stopped in this order, and nothing is on its way.
    assert (mark["basis"], mark["pending"], mark["is_closed"]) == ("file", 0, True)
    assert list((tmp_path / "journal").glob("*.journal")) == []


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def is_rotated(folder: Path) -> bool:
    return bool(list(folder.glob("access.jsonl.*")))


async def is_tidied(folder: Path) -> bool:
    live = folder / "access.jsonl"
    return live.exists() and not await is_rotated(folder)


async def test_a_claim_waits_while_envoy_does_not_answer(
    tmp_path: Path, fresh_database_url: str, redis_url: str
) -> None:
    async with (
        a_room(tmp_path, fresh_database_url) as room,
        room.sink(fresh_database_url, redis_url),
    ):
        await until(lambda: room.is_complete(0))
        await room.bench.envoy.end(signal.SIGKILL)
        dead = SystemClock().now()
        marks: dict[Any, float] = {}  # by the time of the round

        async def has_claimed_often() -> bool:
            mark = await room.watermark()
            marks[mark["updated_at"]] = mark["complete_through"].timestamp()
            return len(marks) > 5

        await until(has_claimed_often)
        assert max(marks.values()) <= dead
        assert not (await room.watermark())["is_closed"]
        await room.bench.envoy.start()
        await until(lambda: room.is_complete(dead))
