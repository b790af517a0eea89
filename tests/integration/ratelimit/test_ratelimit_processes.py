"""Three `ratelimit` processes on one Redis, asked over gRPC as Envoy asks them."""

import asyncio
import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from envoy.service.ratelimit.v3 import rls_pb2 as pb
from redis.asyncio import Redis

from ratelimit.service import PATH
from runtime import config_channel
from runtime.clock import SystemClock
from tests.integration.ratelimit.servers import Server, a_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROCESSES = 3
START_S = 20.0
LIVE_S = 1.0
CLOCK = SystemClock()
OK, OVER_LIMIT = pb.RateLimitResponse.OK, pb.RateLimitResponse.OVER_LIMIT


@dataclass
class Replica:
    """One process and a channel to it."""

    process: asyncio.subprocess.Process
    channel: grpc.aio.Channel

    async def ask(self, user: str, **entries: str) -> Any:
        request = pb.RateLimitRequest(domain="hubgate")
        descriptor = request.descriptors.add()
        values = {"route": "users", "role": "user", "user": user, **entries}
        for key, value in values.items():
            descriptor.entries.add(key=key, value=value)
        call = self.channel.unary_unary(
            PATH,
            request_serializer=pb.RateLimitRequest.SerializeToString,
            response_deserializer=pb.RateLimitResponse.FromString,
        )
        return await call(request, timeout=START_S, wait_for_ready=True)


@dataclass
class Fleet:
    """The replicas and the Redis that they share."""

    server: Server
    redis: Redis
    replicas: list[Replica]

    async def put(self, limit: int) -> None:
        rule = {"requests": limit, "per_s": 60}
        document = {"roles": {"guest": rule, "user": [rule]}, "routes": {}}
        await config_channel.publish(self.redis, "ratelimit", document)

    async def limits_seen(self) -> set[str]:
        answers = [await one.ask(a_user()) for one in self.replicas]
        return {headers(one)["RateLimit-Limit"] for one in answers}

    async def becomes(self, limit: int) -> float:
        """How long until every process has the limit."""
        began = CLOCK.monotonic()
        async with asyncio.timeout(START_S):
            while await self.limits_seen() != {str(limit)}:
                await asyncio.sleep(0.01)
        return CLOCK.monotonic() - began


def a_user() -> str:
    return f"user-{uuid.uuid4().hex[:12]}"


def headers(response: Any) -> dict[str, str]:
    return {one.key: one.value for one in response.response_headers_to_add}


@asynccontextmanager
async def a_replica(
    folder: Path, number: int, redis_url: str
) -> AsyncIterator[Replica]:
    socket = folder / f"{number}.sock"
    with (folder / f"{number}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "ratelimit"),
            stderr=log,
            env={
                **os.environ,  # noqa: TID251 - of a child process
                "HUBGATE_REDIS_URL": redis_url,
                "HUBGATE_RATELIMIT_LISTEN": f"unix:{socket}",
            },
        )
    channel = grpc.aio.insecure_channel(f"unix:{socket}")
    try:
        yield Replica(process, channel)
    finally:
        await channel.close()
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    folder = tmp_path_factory.mktemp("rl")
    async with AsyncExitStack() as closing:
        server = await closing.enter_async_context(a_server(folder / "valkey"))
        client = server.client()
        closing.push_async_callback(client.aclose)
        replicas = [
            await closing.enter_async_context(a_replica(folder, number, server.url))
            for number in range(PROCESSES)
        ]
        yield Fleet(server, client, replicas)


async def test_exactly_five_of_a_hundred_at_once_pass_a_limit_of_five(
    fleet: Fleet,
) -> None:
    await fleet.put(5)
    await fleet.becomes(5)
    for _ in range(5):
        user = a_user()
        answers = await asyncio.gather(
            *(fleet.replicas[number % PROCESSES].ask(user) for number in range(100))
        )
        codes = Counter(one.overall_code for one in answers)

        assert codes == {
            OK: 5,
            OVER_LIMIT: 95,
        }


@pytest.mark.alone
async def test_new_limits_act_within_a_second_and_earlier_hits_count(
    fleet: Fleet,
) -> None:
    await fleet.put(60)
    await fleet.becomes(60)
    user = a_user()
    for number in range(10):
        await fleet.replicas[number % PROCESSES].ask(user)
    await fleet.put(11)
    live_s = await fleet.becomes(11)
    answers = [await one.ask(user) for one in fleet.replicas]

    assert live_s < LIVE_S
    assert [one.overall_code for one in answers] == [
        OK,
        OVER_LIMIT,
        OVER_LIMIT,
    ]
    assert headers(answers[0])["RateLimit-Remaining"] == "0"


async def test_tokens_charged_by_one_process_count_at_all(fleet: Fleet) -> None:
    rule = [{"requests": 100, "per_s": 60}, {"tokens": 50, "per_s": 3600}]
    document = {"roles": {"guest": rule, "user": rule}, "routes": {}}
    await config_channel.publish(fleet.redis, "ratelimit", document)
    await fleet.becomes(100)
    user = a_user()
    first, second, third = fleet.replicas
    before = await first.ask(user, tokens="check")
    for one in (first, second):
        await _settle(one, user, 30)
    spent = await third.ask(user, tokens="check")
    elsewhere = await third.ask(user)

    assert before.overall_code == OK
    assert spent.overall_code == OVER_LIMIT
    assert headers(spent)["RateLimit-Limit"] == "50"
    assert headers(before)["RateLimit-Limit"] == "100"
    assert elsewhere.overall_code == OK


async def _settle(replica: Replica, user: str, tokens: int) -> None:
    request = pb.RateLimitRequest(domain="hubgate")
    descriptor = request.descriptors.add()
    values = {"route": "users", "role": "user", "user": user, "tokens": "charge"}
    for key, value in values.items():
        descriptor.entries.add(key=key, value=value)
    descriptor.hits_addend.value = tokens
    call = replica.channel.unary_unary(
        PATH,
        request_serializer=pb.RateLimitRequest.SerializeToString,
        response_deserializer=pb.RateLimitResponse.FromString,
    )
    await call(request, timeout=START_S)


async def test_a_killed_redis_fails_no_request_and_is_used_again(fleet: Fleet) -> None:
    await fleet.put(5)
    await fleet.becomes(5)
    await fleet.server.kill()
    user = a_user()
    answers = [await fleet.replicas[0].ask(user) for _ in range(6)]
    await fleet.server.start()
    began = CLOCK.monotonic()
    async with asyncio.timeout(5):
        while not await _is_shared(fleet):
            await asyncio.sleep(0.05)

    assert [one.overall_code for one in answers][-2:] == [
        OK,
        OVER_LIMIT,
    ]
    assert CLOCK.monotonic() - began < 5


async def _is_shared(fleet: Fleet) -> bool:
    user = a_user()
    left = [
        headers(await one.ask(user))["RateLimit-Remaining"] for one in fleet.replicas
    ]
    return left == ["4", "3", "2"]
