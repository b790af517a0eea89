"""`GET /control/v1/explain/{request_id}`: a request's whole story."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from control.api import create_app
from control.audit import Action
from control.explain import Adjustment, Seal, Story
from control.parse import from_document
from control.store import Revision, Status
from control.usage import COLUMNS
from tests.builders import NOW, a_token
from tests.builders_control import ADMIN_TOKEN, Parts

ID = UUID(int=7)
AT = datetime.fromtimestamp(NOW, UTC)
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
DOCUMENT: dict[str, Any] = {
    "version": 1,
    "services": {"mcp": {"instances": ["127.0.0.1:1"]}},
    "routes": [{"id": "openai", "prefix": "/ai", "service": "mcp", "ai": True}],
    "prices_version": "2023-11",
    "prices": [
        {
            "service": "openai",
            "model": "gpt-4o*",
            "from": "2023-01-01",
            "input_per_1000": "2.5",
            "output_per_1000": "10",
            "cached_per_1000": "1.25",
        },
        {"service": "openai", "model": "*", "from": "2023-11-01", "per_call": "9"},
        {"service": "openai", "model": "gpt-4o*", "from": "2030-01-01"},
    ],
}
SEAL = Seal(
    chain="spool",
    node="n",
    seal=4,
    day="2023-11-14",
    rows=2,
    digest="aa",
    previous="bb",
    head="cc",
    sealed_at=AT,
    is_linked=True,
)
LIMIT = {"rule": "role user: 60 requests per 60 s", "limit": 60, "remaining": 4}


def a_row(**changes: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(COLUMNS),
        "id": ID,
        "user_id": "u-1",
        "role": "user",
        "service": "openai",
        "model": "gpt-4o-2024",
        "route": "openai",
        "metadata": {
            "gateway": {
                "upstream": "10.0.0.7:1",
                "firstByteTime": 12,
                "limits": [LIMIT],
            },
            "response": {},
            "billing": {"totalCost": 0.4025},
        },
        "created_at": AT,
        "recorded_at": AT + timedelta(seconds=1),
        "status": 200,
        "outcome": "ok",
        "duration_ms": 30,
        "usage_source": "provider",
        "tokens": 124,
        "input_tokens": 101,
        "output_tokens": 23,
        "cached_tokens": 64,
        "credits": 1,
        "pricing": "priced",
        "price_version": "2023-11",
        "chain": 1,
        "seal": 4,
        **changes,
    }


def a_revision(document: dict[str, Any]) -> Revision:
    return Revision(3, document, "file", "", AT, Status.ACTIVE)


@pytest.fixture
async def parts() -> Parts:
    parts = Parts()
    await parts.changes.start(from_document(DOCUMENT))
    return parts


@pytest.fixture
async def api(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(parts.deps()))
    async with httpx.AsyncClient(transport=transport, base_url="http://c") as client:
        yield client


async def told(api: httpx.AsyncClient, parts: Parts, story: Story) -> dict[str, Any]:
    parts.stories.kept[ID] = story
    answer = await api.get(f"/control/v1/explain/{ID}", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_request_is_told_from_route_to_seal(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    body = await told(api, parts, Story(a_row(), SEAL, [], a_revision(DOCUMENT)))

    assert body["route"]["policy"]["prefix"] == "/ai"
    assert body["route"]["revision"] == 3
    assert body["identity"] == {"userId": "u-1", "role": "user"}
    assert body["verdict"]["isAdmitted"] is True
    assert body["limits"] == [LIMIT]
    assert body["upstream"]["address"] == "10.0.0.7:1"
    assert body["timings"]["firstByteMs"] == 12
    assert body["timings"]["totalMs"] == 30
    assert body["tokens"]["input"] == 101
    assert (body["seal"]["head"], body["seal"]["isLinked"]) == ("cc", True)
    assert body["row"]["priceVersion"] == "2023-11"


async def test_the_credits_are_worked_out_again(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    body = await told(api, parts, Story(a_row(), SEAL, [], a_revision(DOCUMENT)))

    worked_out = body["price"]["arithmetic"]
    terms = [
        (one["what"], one["tokens"], one["credits"]) for one in worked_out["terms"]
    ]
    assert terms == [
        ("input", 37, "0.0925"),
        ("cached", 64, "0.08"),
        ("output", 23, "0.23"),
    ]
    assert (worked_out["exact"], worked_out["credits"]) == ("0.4025", 1)
    assert worked_out["agrees"] is True


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"credits": 2}, id="other credits"),
        pytest.param({"metadata": {"billing": {"totalCost": 0.4}}}, id="another cost"),
    ],
)
async def test_a_charge_that_does_not_follow_from_the_prices_is_said(
    api: httpx.AsyncClient, parts: Parts, changes: dict[str, Any]
) -> None:
    story = Story(a_row(**changes), SEAL, [], a_revision(DOCUMENT))

    body = await told(api, parts, story)

    assert body["price"]["arithmetic"]["agrees"] is False


@pytest.mark.parametrize(
    ("credits_", "agrees"), [(2**31 - 1, True), (2**31 - 2, False)]
)
async def test_credits_that_no_column_holds_are_said_to_be_cut(
    api: httpx.AsyncClient, parts: Parts, credits_: int, *, agrees: bool
) -> None:
    prices = [{**DOCUMENT["prices"][0], "output_per_1000": "100000000"}]
    document = {**DOCUMENT, "prices": prices}
    metadata = {"billing": {"totalCost": 2300000000.1725}, "adjusted": ["credits"]}
    row = a_row(credits=credits_, output_tokens=23_000, metadata=metadata)

    body = await told(api, parts, Story(row, SEAL, [], a_revision(document)))

    worked_out = body["price"]["arithmetic"]
    assert worked_out["exact"] == "2300000000.1725"
    assert worked_out["credits"] == 2**31 - 1
    assert worked_out["rounding"] == "up to a whole credit, and to 2147483647 at most"
    assert worked_out["agrees"] is agrees


async def test_prices_that_came_after_the_request_began_are_found(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    older = {**DOCUMENT, "prices_version": "old"}

    body = await told(api, parts, Story(a_row(), SEAL, [], a_revision(older)))

    assert body["price"]["arithmetic"]["agrees"] is True


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pricing": "free"}, "not an AI call"),
        ({"pricing": "reported"}, "the upstream said"),
        ({"pricing": "unpriced"}, "no price covers it"),
        ({"price_version": "lost"}, "'lost' are in no known configuration"),
    ],
)
async def test_without_a_price_there_is_a_reason_and_no_arithmetic(
    api: httpx.AsyncClient, parts: Parts, changes: dict[str, Any], reason: str
) -> None:
    story = Story(a_row(**changes), SEAL, [], a_revision(DOCUMENT))

    price = (await told(api, parts, story))["price"]

    assert price["arithmetic"] is None
    assert reason in price["arithmeticReason"]


@pytest.mark.parametrize(
    ("outcome", "reason", "decided_by"),
    [("denied", "TOKEN_EXPIRED", "authz"), ("limited", None, "ratelimit")],
)
async def test_a_refused_request_says_who_refused_it_and_why(
    api: httpx.AsyncClient,
    parts: Parts,
    outcome: str,
    reason: str | None,
    decided_by: str,
) -> None:
    metadata = {"response": {} if reason is None else {"reason": reason}}
    row = a_row(outcome=outcome, metadata=metadata, pricing="free")

    verdict = (await told(api, parts, Story(row, SEAL, [], None)))["verdict"]

    assert verdict["isAdmitted"] is False
    assert verdict["decidedBy"] == decided_by
    assert verdict["reason"] == (reason or "RATE_LIMIT_EXCEEDED")


async def test_corrections_are_told_and_added(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    deltas = dict.fromkeys(
        (
            *("tokens", "input_tokens", "output_tokens", "cached_tokens"),
            *("reasoning_tokens", "credits"),
        ),
        0,
    )
    correction = Adjustment({**deltas, "credits": -1, "reason": "gift"}, SEAL)

    body = await told(api, parts, Story(a_row(), SEAL, [correction], None))

    assert body["adjustments"][0]["reason"] == "gift"
    assert body["adjustments"][0]["seal"]["seal"] == 4
    assert body["totals"]["credits"] == 0
    assert body["totals"]["tokens"] == 124


async def test_who_was_explained_is_written_down(
    api: httpx.AsyncClient, parts: Parts
) -> None:
    await told(api, parts, Story(a_row(), None, [], None))

    (kept,) = parts.audit.kept
    assert (kept.entry.action, kept.entry.subject) == (Action.EXPLAIN, "u-1")


async def test_a_request_that_is_not_there_is_404(api: httpx.AsyncClient) -> None:
    answer = await api.get(f"/control/v1/explain/{ID}", headers=ADMIN)

    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


async def test_an_id_that_is_none_is_422(api: httpx.AsyncClient) -> None:
    answer = await api.get("/control/v1/explain/7", headers=ADMIN)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "request_id"


async def test_a_user_may_not_ask(api: httpx.AsyncClient) -> None:
    headers = {"authorization": f"Bearer {a_token(role='admin')}"}

    answer = await api.get(f"/control/v1/explain/{ID}", headers=headers)

    assert answer.status_code == 401
