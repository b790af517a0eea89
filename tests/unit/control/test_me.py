"""`/api/usage/me`: the caller's own limits, credits and latest calls."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx
import pytest

from control.api import create_app
from control.completeness import Watermark
from control.counters import Counted
from control.me import month_at
from control.usage import COLUMNS
from tests.builders import NOW, a_token
from tests.builders_control import ADMIN_TOKEN, Parts, a_config

ME = "/api/usage/me"
AT = datetime.fromtimestamp(NOW, UTC)


def a_row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(COLUMNS),
        "id": UUID(int=number),
        "user_id": "u-1",
        "service": "openai",
        "metadata": {"request": {}, "gateway": {"upstream": "10.0.0.1:1"}},
        "created_at": AT - timedelta(seconds=number),
        "recorded_at": AT,
        "status": 200,
        "tokens": 10,
        "credits": 3,
        "duration_ms": 7,
        **changes,
    }


@pytest.fixture
async def parts() -> Parts:
    parts = Parts()
    await parts.changes.start(
        a_config(
            {"id": "ai", "prefix": "/ai", "ai": True, "rate_limit": LIMITS},
            {"id": "staff", "prefix": "/s", "roles": ["admin"], "rate_limit": PER_S},
            {"id": "all", "prefix": "/all", "rate_limit": {**PER_S, "scope": "route"}},
            {"id": "dry", "prefix": "/dry", "rate_limit": {**PER_S, "shadow": True}},
        )
    )
    rows = [a_row(1), a_row(2, status=500), a_row(3, user_id="u-2")]
    parts.usage.rows = parts.sums.rows = rows
    return parts


PER_S = {"requests": 5, "per": "second"}
LIMITS = ["role", {"tokens": 1000, "per": "day"}]


@pytest.fixture
async def api(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(parts.deps()))
    async with httpx.AsyncClient(transport=transport, base_url="http://c") as client:
        yield client


def bearer(**claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {a_token(**claims)}"}


async def test_limits_are_told_as_they_are_counted(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.counters.counted = {
        "rl:{u:u-1}:role:60": Counted(12, 30_001),
        "rl:{u:u-1}:route:ai:tokens:86400": Counted(1_700, 5_000),
    }

    answer = await api.get(ME, headers=bearer(role="user"))

    limits = answer.json()["limits"]
    assert [
        (one["scope"], one["route"], one["unit"], one["limit"], one["per"])
        for one in limits
    ] == [
        ("role", None, "requests", 60, "minute"),
        ("route", "ai", "tokens", 1000, "day"),
    ]
    assert [(one["used"], one["remaining"], one["reset"]) for one in limits] == [
        (12, 48, 31),
        (1700, 0, 5),
    ]


async def test_a_role_that_nobody_defined_has_a_guests_limits(
    api: httpx.AsyncClient,
) -> None:
    answer = await api.get(ME, headers=bearer(role="pilot"))

    assert answer.json()["limits"][0]["limit"] == 10


async def test_an_unlimited_role_has_none(api: httpx.AsyncClient) -> None:
    body = (await api.get(ME, headers=bearer(role="admin"))).json()

    assert (body["isUnlimited"], body["limits"]) == (True, [])


async def test_without_redis_the_limits_are_told_and_what_is_left_is_not(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.counters.is_available = False

    body = (await api.get(ME, headers=bearer())).json()

    assert body["limits"][0]["limit"] == 60
    assert body["limits"][0]["remaining"] is None
    assert body["limitsReason"] == "the counters do not answer now"


async def test_the_own_usage_of_the_month_is_summed(api: httpx.AsyncClient) -> None:
    body = (await api.get(ME, headers=bearer())).json()

    assert body["used"] == {
        "requests": 2,
        "errors": 1,
        "tokens": 20,
        "credits": 6,
        "includesAdjustments": True,
    }


async def test_remaining_credits_are_null_with_a_reason_or_a_number(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    without = (await api.get(ME, headers=bearer())).json()
    parts.balances.credits["u-1"] = 49
    with_ = (await api.get(ME, headers=bearer())).json()

    assert without["remainingCredits"] is None
    assert without["remainingCreditsReason"] == "nobody keeps this user's balance"
    assert (with_["remainingCredits"], with_["remainingCreditsReason"]) == (49, None)


async def test_recent_calls_are_the_callers_own_without_what_is_hidden(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    parts.usage.marks = [
        Watermark(
            node="n",
            complete_through=AT,
            basis="file",
            pending=0,
            is_closed=False,
            updated_at=AT,
        )
    ]

    body = (await api.get(ME, headers=bearer())).json()
    one = (await api.get(ME, params={"recent": "1"}, headers=bearer())).json()
    none = (await api.get(ME, params={"recent": "0"}, headers=bearer())).json()

    assert [UUID(row["id"]).int for row in body["recent"]] == [1, 2]
    assert [UUID(row["id"]).int for row in one["recent"]] == [1]
    assert none["recent"] == []
    assert body["recent"][0]["metadata"] == {"request": {}}
    assert datetime.fromisoformat(body["completeThrough"]) == AT


async def test_the_admin_token_is_nobodys(api: httpx.AsyncClient) -> None:
    headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}

    answer = await api.get(ME, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeZone", "Nowhere/City"),
        ("timeZone", "../etc/passwd"),
        ("timeZone", "posix/Asia/Bangkok"),
        ("recent", "51"),
        ("user", "u-2"),
    ],
)
async def test_a_bad_parameter_is_named(
    api: httpx.AsyncClient, name: str, value: str
) -> None:
    answer = await api.get(ME, params={name: value}, headers=bearer())

    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["errors"]] == [name]


async def test_a_time_zone_has_the_names_that_the_summary_takes(
    api: httpx.AsyncClient,
) -> None:
    answer = await api.get(ME, params={"timeZone": "asia/bangkok"}, headers=bearer())

    assert answer.json()["period"]["timeZone"] == "Asia/Bangkok"


@pytest.mark.parametrize(
    ("now", "zone", "start", "end"),
    [
        ("2026-01-31T18:00", "UTC", "2026-01-01T00:00", "2026-02-01T00:00"),
        ("2026-01-31T18:00", "Asia/Bangkok", "2026-01-31T17:00", "2026-02-28T17:00"),
        ("2026-03-15T00:00", "Europe/Berlin", "2026-02-28T23:00", "2026-03-31T22:00"),
        ("2026-12-31T23:00", "Asia/Kolkata", "2026-12-31T18:30", "2027-01-31T18:30"),
    ],
)
def test_a_month_begins_in_the_callers_time_zone(
    now: str, zone: str, start: str, end: str
) -> None:
    at = datetime.fromisoformat(f"{now}+00:00")

    month = month_at(at.timestamp(), ZoneInfo(zone))

    assert month.start == datetime.fromisoformat(f"{start}+00:00")
    assert month.end == datetime.fromisoformat(f"{end}+00:00")
