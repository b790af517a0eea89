"""`python -m sidecar` behind the real Envoy: one call, and what comes after answers."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest
import pytest_asyncio
from envoy.service.ratelimit.v3 import rls_pb2 as pb

from control.documents import ratelimit_document
from ratelimit.service import PATH
from runtime import config_channel
from runtime import redis as runtime_redis
from runtime.clock import SystemClock
from runtime.contracts import DecisionCalls
from runtime.settings import Address
from tests.builders import SECRET, a_token
from tests.integration.control.envoy_bench import Bench, a_bench, until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

ROOT = Path(__file__).parents[3]
DEADLINE_S = 15.0


@dataclass
class Door:
    """Envoy and a sidecar process on a Redis."""

    bench: Bench
    redis_url: str
    socket: str

    async def route(self, name: str, rate_limit: Any, **route: Any) -> str:
        """The path of a route with these limits, in force."""
        body = {"id": name, "prefix": f"/{name}", "prefix_rewrite": "/ai", **route}
        await self.bench.add(rate_limit=rate_limit, **body)
        client = runtime_redis.connect(self.redis_url, timeout_s=2.0)
        rules = ratelimit_document(self.bench.changes.config)
        await config_channel.publish(client, "ratelimit", rules)
        await client.aclose()
        return f"/{name}"

    async def get(self, path: str, user: str = "", **headers: str) -> httpx.Response:
        if user:
            now = SystemClock().now()
            token = a_token(sub=user, iat=now, exp=now + 60, role="guest")
            headers["authorization"] = f"Bearer {token}"
        return await self.bench.client.get(path, headers=headers)

    async def ask_rls(self, route: str, user: str) -> Any:
        """As an Envoy that asks ratelimit itself."""
        request = pb.RateLimitRequest(domain="hubgate")
        descriptor = request.descriptors.add()
        for key, value in {"route": route, "role": "guest", "user": user}.items():
            descriptor.entries.add(key=key, value=value)
        async with grpc.aio.insecure_channel(f"unix:{self.socket}") as channel:
            call = channel.unary_unary(
                PATH,
                request_serializer=pb.RateLimitRequest.SerializeToString,
                response_deserializer=pb.RateLimitResponse.FromString,
            )
            return await call(request, timeout=DEADLINE_S, wait_for_ready=True)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def door(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str
) -> AsyncIterator[Door]:
    folder: Path = tmp_path_factory.mktemp("one")
    (folder / "secret").write_bytes(SECRET)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "sidecar"),
        env={
            "PYTHONPATH": str(ROOT),
            "HUBGATE_SIDECAR_LISTEN": f"unix:{folder}/s.sock",
            "HUBGATE_JWT_SECRET_FILE": f"{folder}/secret",
            "HUBGATE_REDIS_URL": redis_url,
            "HUBGATE_REDIS_TIMEOUT_S": "2",
        },
        stderr=asyncio.subprocess.DEVNULL,
    )
    here = (Address(path=f"{folder}/s.sock"),)
    async with a_bench(
        folder, authz=here, ratelimit=here, calls=DecisionCalls.ONE
    ) as bench:
        one = Door(bench, redis_url, f"{folder}/s.sock")
        await one.ask_rls("nothing", "nobody")
        yield one
    process.terminate()
    async with asyncio.timeout(DEADLINE_S):
        assert await process.wait() == 0


def a_user() -> str:
    return f"user-{uuid.uuid4().hex[:12]}"


async def is_limited_to(door: Door, path: str, limit: str) -> None:
    """The rules arrive at the sidecar by way of Redis."""

    async def look() -> bool:
        answer = await door.get(path, a_user())
        return bool(answer.headers.get("ratelimit-limit") == limit)

    await until(look)


async def test_client_and_log_are_told_as_by_two_calls(door: Door) -> None:
    path = await door.route("told", {"requests": 2, "per": "minute"}, auth="optional")
    await is_limited_to(door, path, "2")
    user = a_user()
    first, _, denied = [await door.get(path, user) for _ in range(3)]
    entry = await door.bench.entry(denied.headers["x-request-id"])

    assert first.status_code == 200
    assert first.headers["ratelimit-remaining"] == "1"
    assert denied.status_code == 429
    assert denied.headers["retry-after"] == denied.headers["ratelimit-reset"]
    assert denied.headers["content-type"] == "application/json"
    assert denied.headers["x-content-type-options"] == "nosniff"
    assert denied.json() == {
        "code": "RATE_LIMIT_EXCEEDED",
        "message": "Too many requests, try again later",
        "requestId": denied.headers["x-request-id"],
    }
    assert (entry["user_id"], entry["reason"]) == (user, "token")
    assert entry["limits"].startswith("2;0;")
    assert entry["limits"].endswith("route told: 2 requests per 60 s")


async def test_a_guest_cannot_choose_the_address_that_is_counted(door: Door) -> None:
    limit = {"requests": 3, "per": "minute"}
    path = await door.route("spoofed", limit, auth="optional")
    await is_limited_to(door, path, "3")
    lies = [
        {
            "x-forwarded-for": f"203.0.113.{number}",
            "x-client-address": f"203.0.113.{number}",
        }
        for number in range(5)
    ]
    statuses = [(await door.get(path, **one)).status_code for one in lies]

    assert statuses == [200, 200, 200, 429, 429]


async def test_a_budget_is_charged_after_the_answer_and_denies_when_spent(
    door: Door,
) -> None:
    limit = {"tokens": 20, "per": "minute"}
    path = await door.route("budget", limit, ai=True, auth="optional")
    await is_limited_to(door, path, "20")
    user = a_user()
    first = await door.get(f"{path}/openai", user)

    async def is_spent() -> httpx.Response | None:
        answer = await door.get(f"{path}/openai", user)
        return answer if answer.status_code == 429 else None

    denied = await until(is_spent)

    assert first.status_code == 200
    assert denied.headers["ratelimit-limit"] == "20"
    assert denied.headers["ratelimit-remaining"] == "0"


async def test_what_authz_denies_and_what_envoy_asks_itself_count_as_before(
    door: Door,
) -> None:
    path = await door.route("both", {"requests": 3, "per": "minute"})
    await is_limited_to(door, path, "3")
    user = a_user()
    denied = await door.get(path)
    await door.ask_rls("both", user)
    answer = await door.get(path, user)

    assert denied.status_code == 401
    assert "ratelimit-limit" not in denied.headers
    assert answer.headers["ratelimit-remaining"] == "1"
