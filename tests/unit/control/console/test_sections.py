"""What a view shows of the API's answers, over a control without processes."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from control.api import create_app
from control.completeness import Minute, Watermark
from control.usage import COLUMNS
from tests.builders import NOW, a_token
from tests.builders_control import ADMIN_TOKEN, Parts, a_config

AT = datetime.fromtimestamp(NOW, UTC)
ADMIN = f"Bearer {ADMIN_TOKEN}"
USER = f"Bearer {a_token()}"
MANAGER = f"Bearer {a_token(role='manager')}"
OF_OTHERS = {"Users", "Latency and errors", "Anomalies", "Peak hours"}


def a_row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(COLUMNS),
        "id": UUID(int=number),
        "user_id": "u-1",
        "service": "openai",
        "model": "gpt-4o",
        "route": "openai",
        "tokens": 100,
        "credits": 1,
        "duration_ms": 80,
        "metadata": {},
        "created_at": AT - timedelta(seconds=number),
        "recorded_at": AT,
        "status": 200,
        "outcome": "ok",
        **changes,
    }


@pytest.fixture
def parts() -> Parts:
    parts = Parts()
    parts.totals.rows = [a_row(number) for number in range(10)]
    return parts


@pytest.fixture
async def client(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    await parts.changes.start(a_config())
    transport = httpx.ASGITransport(create_app(parts.deps()))
    async with httpx.AsyncClient(transport=transport, base_url="http://c") as one:
        yield one


async def view(client: httpx.AsyncClient, who: str = USER, **given: str) -> str:
    headers = {"authorization": who}
    answer = await client.get("/console/view", headers=headers, params=given)
    assert answer.status_code == 200, answer.text
    return answer.text


def titles(html: str) -> list[str]:
    return re.findall(r"<h2[^>]*>([^<]+)</h2>", html)


def rows(html: str, caption: str) -> list[list[str]]:
    """Of the table with that caption, without its headings."""
    found = re.search(f"<caption>{caption}</caption>.*?</table>", html, re.DOTALL)
    assert found is not None
    body = found[0].partition("<tbody>")[2]
    return [
        re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row)
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    ]


async def test_a_user_sees_what_is_their_own(client: httpx.AsyncClient) -> None:
    found = titles(await view(client))

    assert found == [
        *("Over time", "Services", "Models", "Limits and credits", "Errors"),
        *("Calls", "Export"),
    ]


async def test_a_manager_sees_more_and_an_admin_all(client: httpx.AsyncClient) -> None:
    manager, admin = (
        titles(await view(client, MANAGER)),
        titles(await view(client, ADMIN)),
    )

    assert set(manager) > OF_OTHERS
    assert "Completeness" not in manager
    assert set(admin) > {*OF_OTHERS, "Completeness"}


async def test_figures_are_compared_with_the_period_before(
    client: httpx.AsyncClient, parts: Parts
) -> None:
    days = timedelta(days=1)
    parts.totals.rows += [a_row(n, created_at=AT - 1.5 * days) for n in range(50, 58)]

    html = await view(client, period="24h")

    assert '<dd>10</dd><dd class="note">+25.0 % on the period before</dd>' in html


async def test_without_anything_before_there_is_no_percent(
    client: httpx.AsyncClient,
) -> None:
    assert "nothing in the period before" in await view(client, period="24h")


async def test_the_latency_of_a_service_is_shown_with_how_it_is_found(
    client: httpx.AsyncClient, parts: Parts
) -> None:
    parts.totals.rows += [a_row(20, status=502, duration_ms=9000)]
    html = await view(client, ADMIN)

    (service,) = rows(html, "Services by requests")
    assert service[:3] == ["openai", "11", "9.09 %"]
    assert all(re.fullmatch(r"[\d.]+ (ms|s)", text) for text in service[3:6])
    assert "from histograms" in html


async def test_an_hour_unlike_those_of_the_weeks_before_is_shown_with_them(
    client: httpx.AsyncClient, parts: Parts
) -> None:
    hour = AT.replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    parts.totals.rows = [
        a_row(1000 * week + n, created_at=hour - week * timedelta(days=7))
        for week in range(9)
        for n in range(60 if week == 0 else 4)
    ]

    found = rows(await view(client, ADMIN, period="24h"), "Unusual hours, .*?first")

    by_metric = {row[1]: row[2:] for row in found}
    assert by_metric["requests"][:2] == ["60", "4"]
    assert by_metric["requests"][3] == ", ".join(["4"] * 8)


async def test_too_few_days_for_an_outlook_are_said(client: httpx.AsyncClient) -> None:
    assert "Too few days for it" in await view(client, ADMIN, period="24h")


async def test_an_outlook_goes_on_from_the_days_before(
    client: httpx.AsyncClient, parts: Parts
) -> None:
    parts.totals.rows = [
        a_row(100 * day + n, created_at=AT - day * timedelta(days=1))
        for day in range(1, 20)
        for n in range(40 - day)
    ]
    html = await view(client, ADMIN, period="30d")

    growth = {row[0]: row for row in rows(html, r"Growth over \d+ days")}
    assert growth["Requests"][1].startswith("+")
    assert [row[0] for row in rows(html, "If it goes on like this")] == [
        *("7 days", "30 days", "90 days"),
    ]


async def test_what_gateways_claim_is_shown(
    client: httpx.AsyncClient, parts: Parts
) -> None:
    mark: dict[str, Any] = {
        "basis": "file",
        "pending": 3,
        "is_closed": False,
        "updated_at": AT,
    }
    parts.usage.marks = [Watermark(node="edge-1", complete_through=AT, **mark)]
    counts = {"admitted": 7, "recorded": 5, "unsettled": 1, "quarantined": 0}
    for ago in (1, 2):
        minute = AT - timedelta(minutes=ago)
        parts.usage.counts.append(Minute(node="edge-1", minute=minute, **counts))

    html = await view(client, ADMIN)

    (node,) = rows(html, "Gateways and .*? ledger")
    assert [node[0], *node[2:]] == ["edge-1", "file", "3", "running"]
    for by_hand, state in ((None, "stopped"), (AT, "closed by hand")):
        closed = {**mark, "is_closed": True, "closed_by_hand_at": by_hand}
        parts.usage.marks = [Watermark(node="edge-1", complete_through=AT, **closed)]
        (node,) = rows(await view(client, ADMIN), "Gateways and .*? ledger")
        assert node[-1] == state
    assert rows(html, "Requests that began in the last hour") == [
        ["edge-1", "14", "10", "2", "0"]
    ]


async def test_limits_are_shown_as_they_are_now(
    client: httpx.AsyncClient, parts: Parts
) -> None:
    parts.balances.credits["u-1"] = 1234
    html = await view(client, USER)

    meter = re.search(r'<meter min="0" max="(\d+)" value="(\d+)"', html)
    assert meter is not None
    assert int(meter[2]) <= int(meter[1])
    assert "You have 1,234 credits left." in html


async def test_an_unknown_balance_says_why(client: httpx.AsyncClient) -> None:
    html = await view(client, USER)

    assert "is not known: nobody keeps this user&#39;s balance." in html


async def test_counters_that_are_away_leave_the_limits_standing(
    client: httpx.AsyncClient, parts: Parts
) -> None:
    parts.counters.is_available = False
    html = await view(client, USER)

    assert "<meter" not in html
    assert "the counters do not answer now" in html


async def test_the_admin_token_has_no_limits_of_its_own(
    client: httpx.AsyncClient,
) -> None:
    assert "Limits and credits" not in titles(await view(client, ADMIN))


async def test_a_range_too_long_for_a_part_leaves_the_others(
    client: httpx.AsyncClient,
) -> None:
    given = {"from": "2025-06-01", "to": AT.date().isoformat(), "timeZone": "UTC"}
    first = (AT - timedelta(days=300)).date().isoformat()
    html = await view(client, ADMIN, **{**given, "from": first}, period="custom")

    assert "give a range of at most" in html
    assert rows(html, "Services by credits, .*?first")[0][0] == "openai"


async def test_small_groups_are_one_in_the_chart_and_in_the_table(
    client: httpx.AsyncClient, parts: Parts
) -> None:
    parts.totals.rows = [
        a_row(n, service=f"service-{n}", credits=100 - n) for n in range(8)
    ]
    html = await view(client)

    legend = re.findall(r'class="(c\d|rest)"/></svg> ([^<]+)<', html)
    assert [colour for colour, _ in legend] == ["c0", "c1", "c2", "c3", "c4", "rest"]
    assert legend[-1][1] == "all others"
    assert rows(html, "Services by credits, .*?first")[-1][0] == "3 more"
