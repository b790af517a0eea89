"""Limits as a client meets them, through the real Envoy."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from control.documents import ratelimit_document
from ratelimit.limiter import Limiter, OnRedisDown
from ratelimit.service import RateLimitService
from ratelimit.store import MemoryCounterStore
from ratelimit.store_redis import RedisCounterStore
from runtime import redis as runtime_redis
from runtime.clock import SystemClock
from runtime.grpc_server import GrpcServer
from runtime.metrics import Metrics
from runtime.settings import Address
from tests.integration.control.envoy_bench import Bench, a_bench, until
from tests.integration.ratelimit.servers import a_server

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

#: What an answer of the upstream at /ai/openai says that it took.
TOKENS = 18


@dataclass
class Door:
    """Envoy with a `ratelimit` of its own behind it."""

    bench: Bench
    limiter: Limiter
    metrics: Metrics

    async def route(self, name: str, rate_limit: Any, **route: Any) -> str:
        """The path of a route with these limits, in force."""
        body = {"id": name, "prefix": f"/{name}", "prefix_rewrite": "/ai", **route}
        await self.bench.add(rate_limit=rate_limit, **body)
        self.limiter.use(ratelimit_document(self.bench.changes.config))
        return f"/{name}"

    def caller(self, user: str = "", role: str = "guest") -> None:
        """Who all later requests are."""
        self.bench.gatekeeper.identity = {"user_id": user, "role": role}

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.bench.client.get(path, headers=headers)

    @property
    def tokens(self) -> float:
        """Charged so far."""
        return self.metrics.value("hubgate_ratelimit_tokens_total")

    async def charged(self, tokens: float) -> None:
        async def look() -> bool:
            return self.tokens == tokens

        await until(look)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    folder: Path = tmp_path_factory.mktemp("limits")
    async with a_server(folder / "valkey") as server:
        metrics = Metrics()
        client = runtime_redis.connect(server.url, timeout_s=1.0)
        store = RedisCounterStore(client, metrics, deadline_s=1.0)
        limiter = Limiter(
            store=store,
            fallback=MemoryCounterStore(SystemClock()),
            on_redis_down=OnRedisDown.DENY,
            metrics=metrics,
        )
        service = RateLimitService(limiter)
        here = Address(host="127.0.0.1", port=0)
        grpc = GrpcServer(here, service.methods(), metrics)
        await grpc.start()
        ratelimit = (Address(host="127.0.0.1", port=grpc.port),)
        async with a_bench(folder, ratelimit=ratelimit) as bench:
            yield Door(bench, limiter, metrics)
        await grpc.stop(0.0)
        await store.aclose()
        await client.aclose()


def limit_headers(answer: httpx.Response) -> dict[str, str]:
    names = ("ratelimit-limit", "ratelimit-remaining", "retry-after")
    return {name: answer.headers[name] for name in names if name in answer.headers}


@pytest.mark.parametrize("path", ["/openai", "/openai/stream", "/anthropic"])
async def test_a_token_budget_is_charged_after_the_answer_and_denies_when_spent(
    door: Door, path: str
) -> None:
    name = f"budget{path.replace('/', '-')}"
    prefix = await door.route(name, {"tokens": 20, "per": "minute"}, ai=True)
    door.caller(f"user-{name}", "user")
    before = door.tokens
    first = await door.get(prefix + path)
    await until(lambda: _is_more(door, before))
    taken = door.tokens - before
    statuses = []
    while taken < 20:
        statuses.append((await door.get(prefix + path)).status_code)
        await door.charged(before + 2 * taken)
        taken = door.tokens - before
    denied = await door.get(prefix + path)

    assert first.status_code == 200
    assert set(statuses) <= {200}
    assert denied.status_code == 429
    assert denied.json()["code"] == "RATE_LIMIT_EXCEEDED"
    assert limit_headers(denied) == {
        "ratelimit-limit": "20",
        "ratelimit-remaining": "0",
        "retry-after": denied.headers["ratelimit-reset"],
    }
    assert door.tokens == before + taken  # the denied one took none


async def _is_more(door: Door, before: float) -> bool:
    return door.tokens > before


async def test_a_role_budget_counts_over_ai_routes_and_leaves_others_alone(
    door: Door,
) -> None:
    def edit(document: dict[str, Any]) -> dict[str, Any]:
        roles = {
            "guest": {"requests": 10, "per": "minute"},
            "thinker": [
                {"requests": 50, "per": "minute"},
                {"tokens": TOKENS + 1, "per": "hour"},
            ],
        }
        return {**document, "limits": {"roles": roles}}

    await door.bench.changes.apply(edit, "test", "")
    one = await door.route("think-one", "role", ai=True)
    other = await door.route("think-other", "role", ai=True)
    plain = await door.route("think-plain", "role")
    door.caller("user-thinker", "thinker")
    before = door.tokens
    for number, path in enumerate((one, other), 1):
        assert (await door.get(f"{path}/openai")).status_code == 200
        await door.charged(before + number * TOKENS)

    assert (await door.get(f"{one}/openai")).status_code == 429
    assert (await door.get(f"{other}/openai")).status_code == 429
    still = await door.get(f"{plain}/openai")
    assert still.status_code == 200
    assert limit_headers(still) == {
        "ratelimit-limit": "50",
        "ratelimit-remaining": "47",
    }


async def test_a_route_and_a_role_limit_both_count_or_neither(door: Door) -> None:
    narrow = await door.route("narrow", ["role", {"requests": 2, "per": "minute"}])
    wide = await door.route("wide", "role")
    door.caller("user-both", "guest")
    statuses = [(await door.get(narrow)).status_code for _ in range(6)]
    after = await door.get(wide)

    assert statuses == [200, 200, 429, 429, 429, 429]
    # The four that were denied cost nothing of the role's ten.
    assert limit_headers(after) == {"ratelimit-limit": "10", "ratelimit-remaining": "7"}


async def test_a_request_may_cost_more_than_one(door: Door) -> None:
    dear = await door.route("dear", "role", cost=4)
    door.caller("user-dear", "guest")
    answers = [await door.get(dear) for _ in range(3)]

    assert [one.status_code for one in answers] == [200, 200, 429]
    assert [one.headers["ratelimit-remaining"] for one in answers] == ["6", "2", "2"]


async def test_a_shadow_limit_counts_and_never_denies(door: Door) -> None:
    limit = {"requests": 2, "per": "minute", "shadow": True}
    path = await door.route("shadowed", [limit])
    door.caller("user-shadow", "guest")
    answers = [await door.get(path) for _ in range(5)]
    said = {
        verdict: door.metrics.value(
            "hubgate_ratelimit_shadow_total",
            rule="route shadowed: 2 requests per 60 s",
            verdict=verdict,
        )
        for verdict in ("allow", "deny")
    }

    assert {one.status_code for one in answers} == {200}
    assert limit_headers(answers[0]) == {}
    assert said == {"allow": 2, "deny": 3}


async def test_a_limit_of_a_route_counts_all_its_callers(door: Door) -> None:
    limit = {"requests": 3, "per": "minute", "scope": "route"}
    path = await door.route("together", [limit])
    statuses = []
    for number in range(5):
        door.caller(f"user-together-{number}", "guest")
        statuses.append((await door.get(path)).status_code)

    assert statuses == [200, 200, 200, 429, 429]


async def test_a_guest_cannot_choose_the_address_that_is_counted(door: Door) -> None:
    path = await door.route("spoofed", {"requests": 3, "per": "minute"})
    door.caller()
    lies = [
        {"x-forwarded-for": f"203.0.113.{number}", "x-real-ip": f"203.0.113.{number}"}
        for number in range(5)
    ]
    statuses = [(await door.get(path, **one)).status_code for one in lies]

    assert statuses == [200, 200, 200, 429, 429]


async def test_behind_a_trusted_hop_its_word_counts_and_nothing_before_it(
    door: Door,
) -> None:
    def edit(document: dict[str, Any]) -> dict[str, Any]:
        return {**document, "edge": {"trusted_hops": 1}}

    path = await door.route("hopped", {"requests": 2, "per": "minute"})
    await door.bench.changes.apply(edit, "test", "")
    door.caller()

    async def ask(number: int, said: str) -> int:
        # A new connection each: the listener was replaced, old ones are drained.
        headers = {"x-forwarded-for": f"203.0.113.{number}, {said}"}
        async with httpx.AsyncClient(trust_env=False) as client:
            url = httpx.URL(door.bench.client.base_url).join(path)
            return (await client.get(url, headers=headers)).status_code

    addresses = (f"198.51.100.{number}" for number in range(1, 250))

    async def is_live() -> bool:
        # A listener that does not trust the hop denies the third.
        return [await ask(0, next(addresses)) for _ in range(3)] == [200, 200, 200]

    await until(is_live)
    one = [await ask(number, "2001:db8:1:2::1") for number in range(3)]
    same_site = await ask(9, "2001:db8:1:2:ffff::9")
    other = await ask(9, "2001:db8:1:3::1")

    assert one == [200, 200, 429]
    assert (same_site, other) == (429, 200)


async def test_waiting_as_told_succeeds(door: Door) -> None:
    path = await door.route("patience", {"requests": 2, "per": "second"})
    door.caller("user-patient", "guest")
    answers = await asyncio.gather(*(door.get(path) for _ in range(5)))
    denied = next(one for one in answers if one.status_code == 429)
    await asyncio.sleep(int(denied.headers["retry-after"]))
    after = await door.get(path)

    assert Counter(one.status_code for one in answers)[200] == 2
    assert after.status_code == 200
