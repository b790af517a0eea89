"""Fetched keys: news come soon, floods cost little, failures change nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from jwt.algorithms import OKPAlgorithm
from structlog.testing import capture_logs

from runtime.clock import FakeClock
from runtime.contracts import ErrorCode
from runtime.identity.jwks import Feed, FetchedKeys, FetchFailed, Pace
from runtime.identity.keys import from_secret
from runtime.identity.tokens import Checks, Claims, Rejected
from runtime.identity.verifier import Verifier
from runtime.metrics import Metrics
from tests.builders import NOW, SECRET, a_token, claims

OLD, NEW = (ed25519.Ed25519PrivateKey.generate() for _ in range(2))
COOLDOWN_S = 30.0
DEADLINE_S = 5.0


def jwk(private: ed25519.Ed25519PrivateKey, kid: str) -> dict[str, Any]:
    return {**OKPAlgorithm.to_jwk(private.public_key(), as_dict=True), "kid": kid}


def signed(private: ed25519.Ed25519PrivateKey, kid: str) -> str:
    return jwt.encode(claims(), private, "EdDSA", headers={"kid": kid})


class Publisher:
    """Answers a fetch with what it holds; None: it is away."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.body: bytes | None = json.dumps({"keys": keys}).encode()
        self.fetches = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, url: str) -> bytes:
        self.fetches += 1
        await self.gate.wait()
        if self.body is None:
            raise FetchFailed("away")
        return self.body

    def publish(self, *keys: dict[str, Any]) -> None:
        self.body = json.dumps({"keys": keys}).encode()


class Bench:
    """A verifier over one feed and one fixed key."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.clock = FakeClock(NOW)
        self.metrics = Metrics()
        self.pace = Pace(refresh_s=300, cooldown_s=COOLDOWN_S)
        self.feed = Feed("https://x/jwks", None, publisher, self.pace, self.metrics)
        self.source = FetchedKeys(
            [from_secret(SECRET)], [self.feed], self.clock, self.pace
        )
        self.verifier = Verifier(self.source, Checks(), self.clock)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(self.source.run(stop))
        yield
        stop.set()
        await task

    async def code(self, token: str) -> ErrorCode | None:
        outcome = await self.verifier.verify(token)
        return outcome.code if isinstance(outcome, Rejected) else None

    async def until(self, counted: int, result: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.counted(result) < counted:
                await asyncio.sleep(0.01)

    def counted(self, result: str) -> float:
        return self.metrics.value("hubgate_jwks_fetches_total", result=result)


async def test_a_new_key_is_found_by_the_first_token_that_names_it() -> None:
    bench = Bench(Publisher(jwk(OLD, "old")))
    async with bench.running():
        await bench.until(1, "ok")
        bench.publisher.publish(jwk(OLD, "old"), jwk(NEW, "new"))

        assert await bench.code(signed(NEW, "new")) is None
        assert await bench.code(signed(OLD, "old")) is None
    assert bench.publisher.fetches == 2


async def test_a_flood_of_unknown_keys_is_one_fetch_a_cooldown() -> None:
    bench = Bench(Publisher(jwk(OLD, "old")))
    async with bench.running():
        await bench.until(1, "ok")
        flood = [bench.code(signed(NEW, f"random-{n}")) for n in range(200)]
        codes = set(await asyncio.gather(*flood))
        bench.clock.advance(COOLDOWN_S - 0.1)
        await bench.code(signed(NEW, "again"))
        in_cooldown = bench.publisher.fetches
        bench.clock.advance(0.2)
        await bench.code(signed(NEW, "again"))

    assert codes == {ErrorCode.TOKEN_INVALID}
    assert in_cooldown == 2
    assert bench.publisher.fetches == 3


@pytest.mark.parametrize(
    "algorithm", ["none", "HS512", "XS256"], ids=["none", "HMAC", "unknown"]
)
async def test_a_token_that_no_published_key_could_verify_causes_no_fetch(
    algorithm: str,
) -> None:
    bench = Bench(Publisher(jwk(OLD, "old")))
    async with bench.running():
        await bench.until(1, "ok")
        header, _, rest = a_token().partition(".")
        forged = jwt.utils.base64url_encode(
            json.dumps({"alg": algorithm, "kid": "x"}).encode()
        ).decode()

        assert await bench.code(f"{forged}.{rest}") is ErrorCode.TOKEN_INVALID
    assert header != forged
    assert bench.publisher.fetches == 1


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(None, id="away"),
        pytest.param(b"<html>", id="not JSON"),
        pytest.param(b'{"keys":[]}', id="empty"),
        pytest.param(b'{"keys":[{"kty":"oct","k":"AAAA"}]}', id="no usable key"),
        pytest.param(b"[" * 100_000, id="nested"),
    ],
)
async def test_the_last_good_set_stays(body: bytes | None) -> None:
    bench = Bench(Publisher(jwk(OLD, "old")))
    async with bench.running():
        await bench.until(1, "ok")
        bench.publisher.body = body
        await bench.code(signed(NEW, "new"))
        await bench.until(1, "failed")

        assert await bench.code(signed(OLD, "old")) is None


async def test_a_bad_key_is_left_out_and_the_others_count() -> None:
    bench = Bench(Publisher({"kty": "EC", "kid": "bad"}, jwk(OLD, "old")))
    with capture_logs() as logs:
        async with bench.running():
            await bench.until(1, "ok")

            assert await bench.code(signed(OLD, "old")) is None
    assert logs[0]["reasons"] == ["keys[0]: unreadable: InvalidKeyError"]


async def test_before_the_first_set_tokens_wait_and_other_keys_count() -> None:
    publisher = Publisher(jwk(OLD, "old"))
    body, publisher.body = publisher.body, None
    bench = Bench(publisher)
    async with bench.running():
        await bench.until(1, "failed")
        early = await bench.code(signed(OLD, "old"))
        fixed = await bench.code(a_token())
        forged = await bench.code(signed(OLD, "old")[:-2] + "!!")
        publisher.body = body
        await bench.until(1, "ok")

        assert await bench.code(signed(OLD, "old")) is None
    assert early is ErrorCode.AUTH_UNAVAILABLE
    assert fixed is None
    assert forged is ErrorCode.TOKEN_INVALID


async def test_a_fetch_that_hangs_holds_nobody_up_for_long() -> None:
    bench = Bench(Publisher(jwk(OLD, "old")))
    async with bench.running():
        await bench.until(1, "ok")
        bench.publisher.gate.clear()
        async with asyncio.timeout(1):
            new = await bench.code(signed(NEW, "new"))
        bench.clock.advance(1)
        async with asyncio.timeout(0.1):
            later = await bench.code(signed(NEW, "new"))
            old = await bench.verifier.verify(signed(OLD, "old"))

    assert new is later is ErrorCode.AUTH_UNAVAILABLE
    assert isinstance(old, Claims)
