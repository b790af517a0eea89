"""The console over a control without processes: what it serves, and to whom."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

import httpx
import pytest

from control.api import create_app
from control.usage import COLUMNS
from tests.builders import NOW, a_token
from tests.builders_control import ADMIN_TOKEN, Parts, a_config

HOSTILE = "<img src=x onerror=alert(1)>\"'&"
FILES = ("/console", "/console/", "/console/console.css", "/console/console.js")


def a_row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(COLUMNS),
        "id": UUID(int=number),
        "user_id": "u-1",
        "service": "openai",
        "model": "gpt-4o",
        "tokens": 1000 + number,
        "credits": 7,
        "duration_ms": 1234,
        "metadata": {"request": {}},
        "created_at": datetime.fromtimestamp(NOW, UTC) - timedelta(seconds=number),
        "recorded_at": datetime.fromtimestamp(NOW, UTC),
        "status": 200,
        "outcome": "ok",
        **changes,
    }


@pytest.fixture
def parts() -> Parts:
    parts = Parts()
    parts.usage.rows = [a_row(number) for number in range(60)]
    return parts


@pytest.fixture
async def client(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    await parts.changes.start(a_config())
    transport = httpx.ASGITransport(create_app(parts.deps()))
    async with httpx.AsyncClient(transport=transport, base_url="http://c") as one:
        yield one


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


USER = bearer(a_token())
ADMIN = bearer(ADMIN_TOKEN)


class _Rows(HTMLParser):
    """The texts of the cells of the list of calls."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        found = re.search(r'(<tbody id="calls">.*?</tbody>)', html, re.DOTALL)
        self.feed(found[1] if found else html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


@pytest.mark.parametrize("path", FILES)
async def test_the_page_is_for_everyone_and_loads_nothing_from_elsewhere(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)

    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"(src|href|url\(|import)[^>\n]{0,4}(https?:)?//", answer.text)


async def test_no_script_or_style_is_in_the_page_itself(
    client: httpx.AsyncClient,
) -> None:
    page = (await client.get("/console")).text
    view = (await client.get("/console/view", headers=USER)).text

    for text in (page, view):
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    assert re.findall(r"<script[^>]*>(.*?)</script>", page) == [""]
    assert "<script" not in view


async def test_a_file_is_sent_again_only_when_it_is_another(
    client: httpx.AsyncClient,
) -> None:
    first = await client.get("/console/console.js")
    tag = {"if-none-match": first.headers["etag"]}

    assert (await client.get("/console/console.js", headers=tag)).status_code == 304
    assert (await client.get("/console/console.css", headers=tag)).status_code == 200


@pytest.mark.parametrize("name", ["api.py", "..%2fapi.py", "console.html", "x", "%00"])
async def test_there_are_no_other_files(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/console/{name}")).status_code == 404


@pytest.mark.parametrize("path", ["/console/view", "/console/calls"])
async def test_usage_is_only_for_who_says_who_they_are(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)

    assert answer.status_code == 401
    assert answer.json()["code"] == "TOKEN_MISSING"


def test_the_parts_of_the_page_are_no_part_of_the_api(parts: Parts) -> None:
    paths = create_app(parts.deps()).openapi()["paths"]

    assert not [one for one in paths if one.startswith("/console")]


async def test_what_callers_sent_is_shown_as_it_was_sent(
    client: httpx.AsyncClient, parts: Parts
) -> None:
    parts.usage.rows = [a_row(1, model=HOSTILE, user_id=HOSTILE, service=HOSTILE)]

    rows = _Rows((await client.get("/console/view", headers=ADMIN)).text)

    assert rows.rows[0][1:4] == [HOSTILE] * 3
    assert set(rows.tags) == {"tbody", "tr", "th", "td"}


async def test_a_filter_is_shown_as_it_was_given(client: httpx.AsyncClient) -> None:
    given = {"model": HOSTILE, "service": HOSTILE}

    view = (await client.get("/console/view", headers=USER, params=given)).text

    assert "<img" not in view
    assert view.count("&lt;img src=x onerror=alert(1)&gt;") >= 2


async def test_older_calls_follow_without_a_gap_until_there_are_none(
    client: httpx.AsyncClient,
) -> None:
    html = (await client.get("/console/view", headers=ADMIN)).text
    tokens = [row[6] for row in _Rows(html).rows]
    while more := re.search(r'data-query="([^"]+)"[^>]*>Show older', html):
        query = more[1].replace("&amp;", "&")
        html = (await client.get(f"/console/calls?{query}", headers=ADMIN)).text
        tokens += [row[6] for row in _Rows(html).rows]

    assert tokens == [f"{1000 + number:,}" for number in range(60)]


async def test_a_user_is_shown_own_calls_only(
    client: httpx.AsyncClient, parts: Parts
) -> None:
    parts.usage.rows = [a_row(1, user_id="someone-else"), a_row(2, tokens=5)]

    view = (await client.get("/console/view", headers=USER)).text

    assert [row[5] for row in _Rows(view).rows] == ["5"]
    assert "someone-else" not in view
    assert 'name="user"' not in view


async def test_somebody_elses_name_is_refused_as_the_api_refuses_it(
    client: httpx.AsyncClient,
) -> None:
    given = {"user": "someone-else"}
    answer = await client.get("/console/view", headers=USER, params=given)

    assert answer.status_code == 403
    assert answer.json()["code"] == "FORBIDDEN"


@pytest.mark.parametrize(
    ("given", "field"),
    [({"timeZone": "Middle/Earth"}, "timeZone"), ({"period": "era"}, "period")],
)
async def test_a_bad_filter_is_named(
    client: httpx.AsyncClient, given: dict[str, str], field: str
) -> None:
    answer = await client.get("/console/view", headers=USER, params=given)

    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["errors"]] == [field]


@pytest.mark.parametrize(
    "given", [{"timeZone": "Middle/Earth"}, {"users": "2"}, {"cursor": "x"}]
)
async def test_a_button_that_is_not_ours_is_refused(
    client: httpx.AsyncClient, given: dict[str, str]
) -> None:
    answer = await client.get("/console/calls", headers=USER, params=given)

    assert answer.status_code == 422


async def test_an_admins_look_at_others_is_written_down(
    client: httpx.AsyncClient, parts: Parts
) -> None:
    given = {"user": "alice"}
    await client.get("/console/view", headers=ADMIN, params=given)

    assert "alice" in {one.entry.subject for one in parts.audit.kept}


async def test_a_part_that_cannot_be_told_says_so_and_the_others_are_shown(
    client: httpx.AsyncClient, parts: Parts
) -> None:
    parts.usage.is_available = False
    parts.totals.rows = [a_row(1), a_row(2)]
    view = (await client.get("/console/view", headers=USER)).text

    assert "The database does not answer now" in view
    assert tiles(view) == {"Requests": "2", "Tokens": "2,003", "Credits": "14"}


async def test_the_chart_and_its_table_say_the_same(
    client: httpx.AsyncClient, parts: Parts
) -> None:
    parts.totals.rows = [a_row(1), a_row(2, service="claude", credits=3)]
    given = {"period": "24h", "measure": "credits"}
    view = (await client.get("/console/view", headers=USER, params=given)).text

    drawn = re.findall(r"<title>[^<]*: (\w+) (\d+)</title>", view)
    table = re.search(r"<caption>Credits by hour</caption>.*?</table>", view, re.DOTALL)
    assert sorted(drawn) == [("claude", "3"), ("openai", "7")]
    assert table is not None
    assert _Rows(table[0]).rows[-1][1:] == ["7", "3", "10"]
    assert len(_Rows(table[0]).rows) == 25


async def test_no_two_parts_of_a_view_have_the_same_id(
    client: httpx.AsyncClient, parts: Parts
) -> None:
    parts.totals.rows = [a_row(1), a_row(2, service="claude", credits=3)]
    page = (await client.get("/console")).text
    view = (await client.get("/console/view", headers=ADMIN)).text

    ids = re.findall(r'\sid="([^"]+)"', page + view)
    assert len(ids) > 20
    assert len(ids) == len(set(ids))


def tiles(view: str) -> dict[str, str]:
    found = dict(re.findall(r"<dt>(\w+)</dt><dd>([^<]*)</dd>", view))
    return {name: found[name] for name in ("Requests", "Tokens", "Credits")}
