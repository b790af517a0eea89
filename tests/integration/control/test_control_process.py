"""Control as a whole, over a real PostgreSQL and a real Redis."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from control.__main__ import serve
from control.rules import RulesPublisher
from control.settings import Settings
from control.tokens import MAX_TTL_S
from runtime import redis
from runtime.clock import SystemClock
from runtime.contracts.redis_keys import (
    blacklist_token_key,
    blacklist_user_key,
    config_key,
)
from runtime.settings import SettingsError
from tests.builders import SECRET
from tests.builders_control import ADMIN_TOKEN, a_config
from tests.integration.control.envoy_bench import free_port, until

pytestmark = pytest.mark.integration

GATEWAY = Path(__file__).parents[3] / "gateway.yaml"
ROUTE = {"path": "/new", "service": "core-service"}


@pytest.fixture
def environ(tmp_path: Path, redis_url: str, fresh_database_url: str) -> dict[str, str]:
    (tmp_path / "admin").write_text(ADMIN_TOKEN)
    (tmp_path / "secret").write_bytes(SECRET)
    nowhere = f"127.0.0.1:{free_port()}"
    return {
        "HUBGATE_REDIS_URL": redis_url,
        "HUBGATE_REDIS_TIMEOUT_S": "2",
        "HUBGATE_DATABASE_URL": fresh_database_url,
        "HUBGATE_CONFIG_FILE": str(GATEWAY),
        "HUBGATE_ADMIN_TOKEN_FILE": str(tmp_path / "admin"),
        "HUBGATE_JWT_SECRET_FILE": str(tmp_path / "secret"),
        "HUBGATE_TOKEN_SIGNING_KEY_FILE": str(tmp_path / "secret"),
        "HUBGATE_CONTROL_LISTEN": f"127.0.0.1:{free_port()}",
        "HUBGATE_ADS_LISTEN": f"127.0.0.1:{free_port()}",
        "HUBGATE_DRAIN_TIMEOUT_S": "1",
        **{
            f"HUBGATE_{name}_ADDRESSES": nowhere
            for name in ("AUTHZ", "RATELIMIT", "USAGE_SINK")
        },
    }


@asynccontextmanager
async def running(environ: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """A control that is ready, and its client."""
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(Settings.from_environ(environ), stop))
    client = httpx.AsyncClient(
        base_url=f"http://{environ['HUBGATE_CONTROL_LISTEN']}",
        headers={"authorization": f"Bearer {ADMIN_TOKEN}"},
        timeout=15.0,
        trust_env=False,
    )

    async def is_ready() -> bool:
        if serving.done():
            serving.result()
        try:
            return (await client.get("/health/ready")).is_success
        except httpx.TransportError:
            return False

    async with client:
        try:
            await until(is_ready)
            yield client
        finally:
            stop.set()
            await asyncio.gather(serving, return_exceptions=True)
    serving.result()


async def rules_of(client: Redis, service: str) -> dict[str, Any]:
    async def look() -> bytes | str | None:
        return await client.get(config_key(service))

    rules: dict[str, Any] = json.loads(await until(look))
    return rules


async def test_changes_survive_a_restart(environ: dict[str, str]) -> None:
    async with running(environ) as api:
        put = await api.put("/control/v1/routes/new", json=ROUTE)
    async with running(environ) as api:
        config = (await api.get("/control/v1/config")).json()

    assert (put.status_code, put.json()["revision"]) == (202, 2)
    assert config["revision"] == 2
    assert config["config"]["routes"][-1]["id"] == "new"


async def test_the_sidecars_find_their_rules_in_redis(
    environ: dict[str, str], redis_client: Redis
) -> None:
    limited = {**ROUTE, "rate_limit": {"requests": 5, "per": "minute"}}
    async with running(environ) as api:
        first = await rules_of(redis_client, "ratelimit")
        prices = await rules_of(redis_client, "usage_sink")
        await api.put("/control/v1/routes/new", json=limited)
        second = await rules_of(redis_client, "ratelimit")

    assert first["roles"]["user"] == [{"requests": 60, "per_s": 60}]
    assert prices["version"] == "2026-01"
    assert [one["requests"] for one in second["routes"]["new"]["rules"]] == [5]


async def test_a_revoked_token_is_listed_where_authz_looks(
    environ: dict[str, str], redis_client: Redis
) -> None:
    body = {"user": "u-1", "role": "user", "ttl_s": 60}
    async with running(environ) as api:
        issued = (await api.post("/control/v1/tokens", json=body)).json()
        bearer = {"authorization": f"Bearer {issued['token']}"}
        before = await api.get("/api/usage/logs?limit=0", headers=bearer)
        await api.post("/control/v1/revocations", json={"token": issued["token"]})
        await api.post("/control/v1/revocations", json={"user": "u-2"})
        after = await api.get("/api/usage/logs", headers=bearer)

    assert before.status_code == 422
    assert (after.status_code, after.json()["code"]) == (401, "TOKEN_REVOKED")
    assert (
        0
        < await redis_client.ttl(blacklist_token_key(issued["jti"]))
        <= 91 + 7 * 86_400
    )
    # Any token of the user's, for as long as an `allow_expired` route may take it.
    lasts_s = await redis_client.ttl(blacklist_user_key("u-2"))
    assert MAX_TTL_S < lasts_s <= MAX_TTL_S + 31 + 7 * 86_400


async def test_without_redis_control_changes_and_says_what_is_missing(
    environ: dict[str, str],
) -> None:
    away = {**environ, "HUBGATE_REDIS_URL": "redis://127.0.0.1:1/0"}
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(Settings.from_environ(away), stop))
    url = f"http://{environ['HUBGATE_CONTROL_LISTEN']}"
    headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, trust_env=False, timeout=15.0
    ) as api:

        async def is_started() -> bool:
            try:
                return (await api.get("/control/v1/config")).is_success
            except httpx.TransportError:
                return False

        await until(is_started)
        put = await api.put("/control/v1/routes/new", json=ROUTE)
        revoked = await api.post("/control/v1/revocations", json={"jti": "t"})
        ready = await api.get("/health/ready")
    stop.set()
    await serving

    assert put.status_code == 202
    assert (revoked.status_code, revoked.json()["code"]) == (503, "REDIS_UNAVAILABLE")
    assert ready.status_code == 503
    assert ready.json()["components"]["redis"] != "ok"


async def test_rules_that_redis_missed_are_sent_when_it_is_back(
    redis_client: Redis,
) -> None:
    away = redis.connect("redis://127.0.0.1:1/0", timeout_s=0.2)
    rules, stop = RulesPublisher(away), asyncio.Event()
    await rules.publish(a_config())
    missed = rules.is_behind
    rules._client = redis_client
    repeating = asyncio.create_task(rules.run(stop))
    found = await rules_of(redis_client, "ratelimit")
    stop.set()
    await repeating
    await away.aclose()

    assert missed
    assert "guest" in found["roles"]


async def test_a_first_configuration_that_can_not_work_ends_the_process(
    environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "version: 1\nservices: {a: {instances: ['127.0.0.1:1']}}\n"
        "routes: [{id: a, regex: '(', service: a}]\n"
    )
    settings = Settings.from_environ({**environ, "HUBGATE_CONFIG_FILE": str(file)})

    with pytest.raises(SettingsError, match=r"missing \)"):
        await serve(settings, asyncio.Event())


async def test_control_stops_while_it_waits_for_its_database(
    environ: dict[str, str],
) -> None:
    away = {**environ, "HUBGATE_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(Settings.from_environ(away), stop))
    stop.set()

    await asyncio.wait_for(serving, 15)


@pytest.mark.alone
@pytest.mark.usefixtures("redis_client")
async def test_controls_see_each_others_changes_and_instances_within_a_second(
    environ: dict[str, str],
) -> None:
    second = {
        **environ,
        "HUBGATE_CONTROL_LISTEN": f"127.0.0.1:{free_port()}",
        "HUBGATE_ADS_LISTEN": f"127.0.0.1:{free_port()}",
    }
    instance = {"address": "10.0.0.7:3002", "ttl_s": 60}
    path = "/control/v1/services/core-service/instances"
    clock = SystemClock()
    async with running(environ) as one, running(second) as two:

        async def sees_route() -> bool:
            return (await two.get("/control/v1/routes/new")).is_success

        async def sees_instance() -> list[Any]:
            found: list[Any] = (await two.get(path)).json()["registered"]
            return found

        began = clock.monotonic()
        await one.put("/control/v1/routes/new", json=ROUTE)
        put_s = clock.monotonic() - began
        await until(sees_route)
        route_s = clock.monotonic() - began - put_s
        began = clock.monotonic()
        put = await one.put(f"{path}/i-7", json=instance)
        (registered,) = await until(sees_instance)
        instance_s = clock.monotonic() - began
        at_once = await asyncio.gather(
            *(
                api.put(
                    f"/control/v1/routes/r{number}",
                    json={**ROUTE, "path": f"/r{number}"},
                )
                for number, api in enumerate((one, two, one, two))
            )
        )

        async def has_all() -> bool:
            items = (await two.get("/control/v1/routes")).json()["items"]
            return {"r0", "r1", "r2", "r3"} <= {route["id"] for route in items}

        # None of four changes at once undid another.
        await until(has_all)
        deleted = await two.delete(f"{path}/i-7")

    assert put.json() == registered
    assert registered["address"] == "10.0.0.7:3002"
    assert route_s < 1.0
    assert instance_s < 1.0
    assert {answer.status_code for answer in at_once} == {202}
    assert deleted.status_code == 200
