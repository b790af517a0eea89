"""Where authz asks the limiter too: one answer, and nothing that two did not give."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from envoy.service.auth.v3 import external_auth_pb2 as pb

from authz.audit import Audit
from authz.authorizer import Authorizer, OnRedisDown
from authz.journal import Journal
from authz.limits import Asking, Limiter, MemoryLimiter, Ruling
from authz.service import AuthzService
from runtime.clock import FakeClock
from runtime.identity.blacklist import MemoryBlacklist
from runtime.metrics import Metrics
from tests.builders import NOW, a_check_request, a_token, a_verifier

ID = "00000000-0000-4000-8000-000000000001"


class BrokenLimiter:
    """Fails in a way that nobody foresaw."""

    async def rule(self, asking: Asking) -> Ruling | None:
        raise RecursionError


class NoLimit:
    """No limit applies to anybody."""

    async def rule(self, asking: Asking) -> Ruling | None:
        return None


class Bench:
    def __init__(self, limiter: Limiter | None, journal: Journal | None = None) -> None:
        self.metrics = Metrics()
        clock = FakeClock(NOW)
        authorizer = Authorizer(
            verifier=a_verifier(clock),
            blacklist=MemoryBlacklist(),
            on_redis_down=OnRedisDown.DENY,
            metrics=self.metrics,
        )
        self.lines: list[str] = []
        audit = Audit({}, clock, self.lines.append)
        self.service = AuthzService(authorizer, self.metrics, audit, journal, limiter)

    async def ask(self, token: str | None = None, **context: str) -> Any:
        headers = {"x-client-address": "192.0.2.7", "x-forwarded-for": "203.0.113.9"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        request = a_check_request(headers, **{"limits": "requests", **context})
        request.attributes.source.address.socket_address.address = "10.0.0.1"
        return pb.CheckResponse.FromString(await self.service.check(request))


def told(options: Any) -> dict[str, str]:
    return {one.header.key: one.header.value for one in options}


async def test_an_admitted_request_is_told_of_its_limit_and_so_is_the_ledger() -> None:
    response = await Bench(MemoryLimiter(2)).ask(a_token())

    assert response.status.code == 0
    assert told(response.ok_response.response_headers_to_add) == {
        "RateLimit-Remaining": "1"
    }
    assert told(response.ok_response.headers)["x-user-id"] == "u-1"
    assert dict(response.dynamic_metadata.items()) == {
        "role": "user",
        "reason": "token",
        "user_id": "u-1",
        "counters": "2;1;60;test",
    }


async def test_a_request_over_its_limit_is_denied_in_json() -> None:
    response = await Bench(MemoryLimiter(0)).ask(a_token())
    denied = response.denied_response

    assert response.status.code != 0
    assert denied.status.code == 429
    assert told(denied.headers) == {
        "content-type": "application/json",
        "RateLimit-Remaining": "0",
    }
    assert json.loads(denied.body) == {
        "code": "RATE_LIMIT_EXCEEDED",
        "message": "Too many requests, try again later",
        "requestId": ID,
    }
    # Who it was and why authz let it pass, as where ratelimit is asked after it.
    assert response.dynamic_metadata["user_id"] == "u-1"
    assert response.dynamic_metadata["reason"] == "token"
    assert response.dynamic_metadata["counters"] == "0;0;60;test"


async def test_what_authz_denies_costs_nothing_of_a_limit() -> None:
    limiter = MemoryLimiter(9)
    bench = Bench(limiter)
    answers = [await bench.ask(), await bench.ask("forged")]

    assert [one.denied_response.status.code for one in answers] == [401, 401]
    assert limiter.asked == []


async def test_a_guest_is_counted_by_the_address_that_envoy_vouches_for() -> None:
    limiter = MemoryLimiter(9)
    await Bench(limiter).ask(auth="optional", limits="tokens")

    assert limiter.asked == [
        Asking(
            role="guest",
            user="",
            address="192.0.2.7",
            route="users",
            tells_tokens=True,
        )
    ]


async def test_a_route_without_limits_asks_for_none() -> None:
    limiter = MemoryLimiter(0)
    bench = Bench(limiter)
    request = a_check_request({"authorization": f"Bearer {a_token()}"})

    answer = pb.CheckResponse.FromString(await bench.service.check(request))

    assert answer.status.code == 0
    assert limiter.asked == []


async def test_without_a_limit_nothing_is_told() -> None:
    response = await Bench(NoLimit()).ask(a_token())

    assert response.status.code == 0
    assert not response.ok_response.response_headers_to_add
    assert "counters" not in response.dynamic_metadata


async def test_a_limiter_that_fails_lets_pass_and_is_counted() -> None:
    bench = Bench(BrokenLimiter())

    assert (await bench.ask(a_token())).status.code == 0
    assert (await bench.ask()).denied_response.status.code == 401
    assert bench.metrics.value("hubgate_authz_limiter_failures_total") == 1


@pytest.mark.parametrize("limits", ["requests", "seats"])
async def test_limits_that_nobody_here_can_apply_let_nothing_pass(limits: str) -> None:
    response = await Bench(None).ask(a_token(), limits=limits)

    assert response.denied_response.status.code in (403, 503)


async def test_only_what_passes_both_is_admitted(tmp_path: Path) -> None:
    metrics = Metrics()
    journal = Journal(tmp_path, FakeClock(NOW), metrics)
    bench = Bench(MemoryLimiter(1), journal)
    for _ in range(3):
        await bench.ask(a_token())
    await asyncio.sleep(0)
    journal.close()
    (segment,) = tmp_path.iterdir()

    assert len(segment.read_text().splitlines()) == 1
    assert [
        json.loads(one)["verdict"] for one in "".join(bench.lines).splitlines()
    ] == ["allow"] * 3
