"""The same limiter says the same, by whichever way it is asked."""

from typing import Any

from envoy.service.ratelimit.v3 import rls_pb2 as pb

from authz.limits import Asking, Ruling
from ratelimit.limiter import Limiter, OnRedisDown
from ratelimit.service import RateLimitService
from ratelimit.store import MemoryCounterStore
from runtime.clock import FakeClock
from runtime.metrics import Metrics
from sidecar.limits import Limits

RULES = {
    "roles": {"guest": {"requests": 1, "per_s": 60}, "admin": None},
    "routes": {},
}


def a_limiter() -> Limiter:
    memory = MemoryCounterStore(FakeClock())
    limiter = Limiter(
        store=memory,
        fallback=memory,
        on_redis_down=OnRedisDown.LOCAL,
        metrics=Metrics(),
    )
    limiter.use(RULES)
    return limiter


async def by_rls(limiter: Limiter, user: str, role: str) -> Any:
    request = pb.RateLimitRequest(domain="hubgate")
    values = {"route": "users", "role": role, "user": user, "remote_address": "::1"}
    descriptor = request.descriptors.add()
    for key, value in values.items():
        descriptor.entries.add(key=key, value=value)
    return await RateLimitService(limiter).should_rate_limit(request)


async def by_port(limiter: Limiter, user: str, role: str) -> Ruling | None:
    asking = Asking(
        role=role, user=user, address="::1", route="users", tells_tokens=False
    )
    return await Limits(limiter).rule(asking)


async def test_admitted_and_denied_are_told_alike() -> None:
    asked, apart = a_limiter(), a_limiter()
    for user in ("u-1", "u-1", ""):
        ruling = await by_port(asked, user, "guest")
        response = await by_rls(apart, user, "guest")
        headers = {one.key: one.value for one in response.response_headers_to_add}
        headers.pop("content-type", None)

        assert ruling is not None
        assert ruling.headers == headers
        assert ruling.counters == response.dynamic_metadata["counters"]
        assert ruling.admitted is (response.overall_code == pb.RateLimitResponse.OK)


async def test_both_ways_count_on_the_same_counters() -> None:
    limiter = a_limiter()
    await by_rls(limiter, "", "guest")
    ruling = await by_port(limiter, "", "guest")

    assert ruling is not None
    assert not ruling.admitted


async def test_an_unlimited_role_is_ruled_by_nothing() -> None:
    assert await by_port(a_limiter(), "root", "admin") is None
