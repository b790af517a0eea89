"""The RLS adapter: headers for the limit that decided, JSON for the denied."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from envoy.service.ratelimit.v3 import rls_pb2 as pb

from ratelimit.limiter import Limiter, OnRedisDown
from ratelimit.service import RateLimitService
from ratelimit.store import (
    Charge,
    CounterStore,
    CounterUnavailable,
    MemoryCounterStore,
    Outcome,
)
from runtime.clock import FakeClock
from runtime.grpc_server import RpcError, RpcStatus
from runtime.metrics import Metrics


class AbsentStore:
    """Counters that nobody answers for."""

    async def charge(self, charges: Sequence[Charge]) -> Outcome:
        raise CounterUnavailable


class Bench:
    def __init__(
        self,
        store: CounterStore | None = None,
        on_redis_down: OnRedisDown = OnRedisDown.LOCAL,
    ) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics()
        memory = MemoryCounterStore(self.clock)
        self.limiter = Limiter(
            store=store or memory,
            fallback=memory,
            on_redis_down=on_redis_down,
            metrics=self.metrics,
        )
        self.service = RateLimitService(self.limiter)

    def failures(self, action: str) -> float:
        return self.metrics.value(
            "hubgate_ratelimit_store_failures_total", action=action
        )

    async def ask(self, hits: int = 0, **entries: str) -> Any:
        request = pb.RateLimitRequest(domain="hubgate", hits_addend=hits)
        values = {"route": "users", "role": "user", "user": "u-1", **entries}
        descriptor = request.descriptors.add()
        for key, value in values.items():
            descriptor.entries.add(key=key, value=value)
        return await self.service.should_rate_limit(request)


def headers(response: Any) -> dict[str, str]:
    return {one.key: one.value for one in response.response_headers_to_add}


async def test_an_admitted_request_learns_its_limit() -> None:
    response = await Bench().ask()

    assert response.overall_code == pb.RateLimitResponse.OK
    assert headers(response) == {
        "RateLimit-Limit": "60",
        "RateLimit-Remaining": "59",
        "RateLimit-Reset": "61",
    }


async def test_the_ledger_learns_how_the_counters_stood() -> None:
    bench = Bench()
    bench.limiter.use(
        {
            "roles": {"guest": {"requests": 10, "per_s": 60}},
            "routes": {"ai": {"rules": ["role", {"tokens": 100, "per_s": 3600}]}},
        }
    )

    response = await bench.ask(role="guest", route="ai", tokens="check")

    assert response.dynamic_metadata.fields["counters"].string_value == (
        "10;9;61;role guest: 10 requests per 60 s"
        "|100;100;0;route ai: 100 tokens per 3600 s"
    )


async def test_the_61st_request_of_a_user_in_a_minute_is_denied_with_json() -> None:
    bench = Bench()
    for _ in range(60):
        await bench.ask()
    response = await bench.ask(request_id="r-1")

    assert response.overall_code == pb.RateLimitResponse.OVER_LIMIT
    assert headers(response) == {
        "RateLimit-Limit": "60",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": "61",
        "Retry-After": "61",
        "content-type": "application/json",
    }
    assert json.loads(response.raw_body) == {
        "code": "RATE_LIMIT_EXCEEDED",
        "message": "Too many requests, try again later",
        "requestId": "r-1",
    }


async def test_waiting_as_told_succeeds() -> None:
    bench = Bench()
    answers = [await bench.ask() for _ in range(61)]
    bench.clock.advance(int(headers(answers[-1])["Retry-After"]))

    assert (await bench.ask()).overall_code == pb.RateLimitResponse.OK


async def test_admin_is_unlimited_and_gets_no_headers() -> None:
    bench = Bench()

    response = await bench.ask(role="admin")

    assert response.overall_code == pb.RateLimitResponse.OK
    assert headers(response) == {}


async def test_a_caller_without_a_role_is_a_guest_counted_by_address() -> None:
    bench = Bench()
    for _ in range(10):
        await bench.ask(role="", user="", remote_address="2001:db8::1")
    same_site = await bench.ask(role="", user="", remote_address="2001:db8::2")
    other_site = await bench.ask(role="", user="", remote_address="2001:db8:1::1")

    assert same_site.overall_code == pb.RateLimitResponse.OVER_LIMIT
    assert other_site.overall_code == pb.RateLimitResponse.OK


async def test_a_request_may_cost_more_than_one_hit() -> None:
    response = await Bench().ask(hits=10)

    assert headers(response)["RateLimit-Remaining"] == "50"


async def test_without_redis_each_process_counts_for_itself() -> None:
    bench = Bench(AbsentStore())
    answers = [(await bench.ask()).overall_code for _ in range(61)]

    assert answers == [pb.RateLimitResponse.OK] * 60 + [pb.RateLimitResponse.OVER_LIMIT]
    assert bench.failures("local") == 61


async def test_without_redis_requests_are_denied_when_so_set() -> None:
    bench = Bench(AbsentStore(), OnRedisDown.DENY)

    response = await bench.ask()

    assert response.overall_code == pb.RateLimitResponse.OVER_LIMIT
    assert headers(response)["Retry-After"] == "1"
    assert bench.failures("deny") == 1


async def test_new_rules_count_earlier_hits() -> None:
    bench = Bench()
    await bench.ask(hits=4)
    roles = {"user": {"requests": 5, "per_s": 60}, "guest": None}
    bench.limiter.use({"roles": roles, "routes": {}})

    assert headers(await bench.ask())["RateLimit-Remaining"] == "0"
    assert (await bench.ask()).overall_code == pb.RateLimitResponse.OVER_LIMIT


async def test_refused_rules_leave_the_last_good_ones_in_force() -> None:
    bench = Bench()
    with pytest.raises(ValueError, match="roles must be an object"):
        bench.limiter.use({})

    assert headers(await bench.ask())["RateLimit-Limit"] == "60"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (pb.RateLimitRequest(domain="other"), "domain: 'other'"),
        (pb.RateLimitRequest(domain="hubgate"), "descriptors: 0 given"),
    ],
    ids=["domain", "descriptors"],
)
async def test_a_request_of_another_shape_is_refused_by_name(
    request_: pb.RateLimitRequest, message: str
) -> None:
    with pytest.raises(RpcError, match=message) as caught:
        await Bench().service.should_rate_limit(request_)

    assert caught.value.status is RpcStatus.INVALID_ARGUMENT


async def test_an_unknown_role_does_not_make_a_metric_of_its_own() -> None:
    bench = Bench()

    await bench.ask(role="role-from-a-token")

    counted = bench.metrics.value(
        "hubgate_ratelimit_decisions_total", verdict="allow", role="other"
    )
    assert counted == 1


async def test_a_look_without_a_hit_counts_nothing() -> None:
    bench = Bench()
    request = pb.RateLimitRequest(domain="hubgate")
    descriptor = request.descriptors.add()
    descriptor.entries.add(key="role", value="user")
    descriptor.entries.add(key="user", value="u-1")
    descriptor.hits_addend.value = 0
    await bench.service.should_rate_limit(request)

    assert headers(await bench.ask())["RateLimit-Remaining"] == "59"
