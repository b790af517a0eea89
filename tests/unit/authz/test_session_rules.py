"""When an open connection ends, and what the adapter tells Envoy then."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

from authz.session_service import SessionService
from authz.sessions import Sessions
from runtime.clock import FakeClock
from runtime.grpc_server import RpcError
from runtime.identity.blacklist import MemoryBlacklist
from runtime.identity.tokens import Claims
from runtime.metrics import Metrics
from tests.builders import NOW

CLAIMS = Claims("u-1", "user", NOW + 60, NOW, "t-1")
LEEWAY_S = 30.0


class Bench:
    """Sessions with everything they depend on at hand."""

    def __init__(self) -> None:
        self.blacklist, self.clock = MemoryBlacklist(), FakeClock(NOW)
        self.metrics = Metrics()
        self.sessions = Sessions(self.blacklist, self.clock, self.metrics, LEEWAY_S)
        self.service = SessionService(self.sessions)
        self.requests: asyncio.Queue[Any] = asyncio.Queue()

    async def _incoming(self) -> AsyncIterator[Any]:
        while (request := await self.requests.get()) is not None:
            yield request

    def stream(self) -> AsyncIterator[Any]:
        return self.service.process(self._incoming())


def opening(**metadata: Any) -> Any:
    request = pb.ProcessingRequest()
    request.request_headers.SetInParent()
    if metadata:
        known = request.metadata_context.filter_metadata
        known["envoy.filters.http.ext_authz"].update(metadata)
    return request


WHOLE = {
    "user_id": "u-1",
    "role": "user",
    "expires_at": NOW + 60,
    "issued_at": NOW,
    "token_id": "t-1",
}


async def test_a_session_ends_when_its_token_does() -> None:
    bench = Bench()
    session = bench.sessions.open(CLAIMS)
    bench.clock.advance(60 + LEEWAY_S - 1)
    await bench.sessions.sweep()
    before = session.ended.done()
    bench.clock.advance(1)
    await bench.sessions.sweep()

    assert not before
    assert session.ended.result() == "expired"


async def test_while_nobody_can_tell_a_session_stays() -> None:
    bench = Bench()
    session = bench.sessions.open(CLAIMS)
    bench.blacklist.token_ids.add("t-1")
    bench.blacklist.is_available = False
    await bench.sessions.sweep()
    unknown = session.ended.done()
    bench.blacklist.is_available = True
    await bench.sessions.sweep()

    assert not unknown
    assert session.ended.result() == "revoked"
    assert bench.metrics.value("hubgate_authz_store_failures_total", action="keep") == 1


async def test_the_end_of_a_session_is_told_over_its_stream() -> None:
    bench = Bench()
    stream = bench.stream()
    bench.requests.put_nowait(opening(**WHOLE))
    first = await anext(stream)
    counted = bench.metrics.value("hubgate_authz_sessions")
    bench.blacklist.user_cutoffs["u-1"] = str(NOW + 1).encode()
    await bench.sessions.sweep()
    last = await anext(stream)

    assert first.WhichOneof("response") == "request_headers"
    assert last.immediate_response.status.code == 401
    assert b"TOKEN_REVOKED" in last.immediate_response.body
    assert await anext(stream, None) is None
    assert (counted, len(bench.sessions)) == (1, 0)


async def test_every_step_of_a_good_connection_is_let_through() -> None:
    bench = Bench()
    steps = ("response_headers", "request_trailers", "response_trailers")
    bench.requests.put_nowait(opening(**WHOLE))
    for step in steps:
        request = pb.ProcessingRequest()
        getattr(request, step).SetInParent()
        bench.requests.put_nowait(request)
    bench.requests.put_nowait(None)
    answers = [one.WhichOneof("response") async for one in bench.stream()]

    assert answers == ["request_headers", *steps]
    assert len(bench.sessions) == 0


async def test_a_guest_is_not_watched() -> None:
    bench = Bench()
    bench.requests.put_nowait(opening(role="guest"))

    assert len([one async for one in bench.stream()]) == 1


async def test_a_user_without_a_tokens_end_is_refused() -> None:
    bench = Bench()
    bench.requests.put_nowait(opening(user_id="u-1", role="user"))

    with pytest.raises(RpcError, match="without a token"):
        await anext(bench.stream())


async def test_an_empty_stream_is_no_session() -> None:
    bench = Bench()
    bench.requests.put_nowait(None)

    assert [one async for one in bench.stream()] == []


async def test_when_the_process_stops_its_streams_fail_at_once() -> None:
    bench, stop = Bench(), asyncio.Event()
    running = asyncio.create_task(bench.sessions.run(stop))
    stream = bench.stream()
    bench.requests.put_nowait(opening(**WHOLE))
    await anext(stream)
    stop.set()
    with pytest.raises(RpcError, match="stops"):
        await anext(stream)
    await running
    late = bench.sessions.open(CLAIMS)

    assert late.ended.result() == "stopping"
