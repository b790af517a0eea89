"""The console in a real browser: sign in, look, filter, export, sign out."""

import hashlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect
from pytest_asyncio import fixture

from tests.e2e.browser import page_of, running_browser
from tests.e2e.stack import Stack, a_user, eventually

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    # A machine without a browser gets one first.
    pytest.mark.timeout(900),
]

OPENAI = "/api/mcp/openai/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "one two three four five"}]
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True}
MODELS = ("gpt-4o", "gpt-4o-mini")


@fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as one:
        yield one


@pytest.fixture(scope="module")
def caller(stack: Stack) -> tuple[str, str]:
    """A user with two calls in the ledger, and their token."""
    user = a_user()
    token = stack.token(user)
    for model in MODELS:
        ask(stack, token, model)
    eventually(lambda: len(items(stack, token, service="openai")) == 2, 30.0, 0.5)
    return user, token


def ask(stack: Stack, token: str, model: str) -> httpx.Response:
    body = {"model": model, "messages": MESSAGES}
    answer = stack.request("POST", OPENAI, token, json=body)
    assert answer.status_code == 200, answer.text
    return answer


def items(stack: Stack, token: str, **asked: str) -> list[dict[str, Any]]:
    answer = stack.get("/api/usage/logs", token, params=asked)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def sign_in(page: Page, token: str, path: str = "/console") -> None:
    await page.goto(path)
    await page.get_by_label("Token", exact=True).fill(token)
    await page.get_by_role("button", name="Use the token").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Your usage")


async def test_a_name_and_a_password_open_it_and_a_wrong_one_says_so(
    stack: Stack, browser: Browser
) -> None:
    async with page_of(browser, stack.gateway) as page:
        await page.goto("/console")
        await page.get_by_label("Name").fill("demo-user")
        await page.get_by_label("Password").fill("wrong")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_have_text(
            "Wrong username or password"
        )

        await page.get_by_label("Password").fill("demo")
        await page.keyboard.press("Enter")

        await expect(page.get_by_role("heading", level=1)).to_have_text("Your usage")
        await expect(page.get_by_role("alert")).to_be_hidden()
        assert await page.evaluate("document.activeElement.id") == "title"


async def test_calls_are_listed_newest_first(
    stack: Stack, browser: Browser, caller: tuple[str, str]
) -> None:
    async with page_of(browser, stack.gateway) as page:
        await sign_in(page, caller[1], "/console?service=openai")
        rows = page.locator("#calls tr")

        await expect(rows).to_have_count(2)
        shown = [await rows.nth(n).locator("td").nth(1).inner_text() for n in range(2)]
        assert shown == list(reversed(MODELS))


async def test_nothing_that_callers_send_is_markup(
    stack: Stack, browser: Browser
) -> None:
    hostile = f"<img src=x onerror=alert(1)>{a_user()}"
    token = stack.token(hostile)
    ask(stack, token, "gpt-4o")
    eventually(lambda: items(stack, token, service="openai"), 30.0, 0.5)

    async with page_of(browser, stack.gateway) as page:
        await sign_in(page, token)
        await sign_in_as_admin(page, stack)

        await expect(page.get_by_role("cell", name=hostile).first).to_be_visible()
        assert await page.locator("main img").count() == 0


async def test_a_filter_is_in_the_address_and_survives_a_reload(
    stack: Stack, browser: Browser, caller: tuple[str, str]
) -> None:
    async with page_of(browser, stack.gateway) as page:
        await sign_in(page, caller[1])
        await page.get_by_label("Model", exact=True).fill("gpt-4o-mini")
        await page.get_by_label("Period", exact=True).select_option("24h")
        await page.get_by_role("button", name="Apply").click()

        rows = page.locator("#calls tr")
        await expect(rows).to_have_count(1)
        assert "model=gpt-4o-mini" in page.url
        await page.reload()
        await expect(rows).to_have_count(1)
        await expect(page.get_by_label("Model", exact=True)).to_have_value(
            "gpt-4o-mini"
        )

        await page.go_back()
        await expect(page.get_by_label("Model", exact=True)).to_have_value("")


async def test_a_bad_filter_is_named_beside_its_field(
    stack: Stack, browser: Browser, caller: tuple[str, str]
) -> None:
    async with page_of(browser, stack.gateway) as page:
        await sign_in(page, caller[1])
        await page.get_by_label("Time zone", exact=True).fill("Middle/Earth")
        await page.get_by_role("button", name="Apply").click()

        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("timeZone: give a name of the IANA")
        field = page.get_by_label("Time zone", exact=True)
        await expect(field).to_have_attribute("aria-invalid", "true")


async def test_everything_is_reached_and_used_by_keyboard(
    stack: Stack, browser: Browser, caller: tuple[str, str]
) -> None:
    async with page_of(browser, stack.gateway) as page:
        await page.goto("/console")
        await expect(page.get_by_label("Name")).to_be_focused()
        await tab_to(page, "token")
        # A token of its own, for it ends with signing out.
        await page.keyboard.insert_text(stack.token(caller[0]))
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_be_focused()

        await tab_to(page, "filter-model")
        await page.keyboard.insert_text("gpt-4o")
        await page.keyboard.press("Enter")
        await expect(page.locator("#calls tr")).to_have_count(1)
        await expect(page.get_by_role("button", name="Apply")).to_be_focused()

        await page.keyboard.press("Control+Home")
        await page.evaluate("document.activeElement.blur()")
        await tab_to(page, "sign-out")
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Name")).to_be_focused()


async def tab_to(page: Page, wanted: str) -> None:
    for _ in range(40):
        if await page.evaluate("document.activeElement.id") == wanted:
            return
        await page.keyboard.press("Tab")
    pytest.fail(f"{wanted} is not reached")


async def test_a_chart_has_its_figures_in_a_table_for_who_cannot_see_it(
    stack: Stack, browser: Browser, caller: tuple[str, str]
) -> None:
    calls = items(stack, caller[1], service="openai")
    tokens = sum(one["tokens"] for one in calls)
    given = "?service=openai&measure=tokens&period=24h"
    async with page_of(browser, stack.gateway) as page:
        await sign_in(page, caller[1], f"/console{given}")
        chart = page.get_by_role("img", name="Tokens by hour")
        await expect(chart).to_be_visible()
        description = await chart.get_attribute("aria-labelledby")
        assert description is not None
        said = await page.locator(f"#{description.split()[1]}").text_content()
        assert said is not None
        assert said.startswith(f"{tokens:,} in all.")

        await page.get_by_text("Tokens by hour as a table").focus()
        await page.keyboard.press("Enter")
        table = page.get_by_role("table", name="Tokens by hour")
        await expect(table).to_be_visible()
        cells = await table.locator("tbody td").all_inner_texts()
        assert sum(int(one.replace(",", "")) for one in cells) == tokens


async def test_a_script_that_got_into_the_page_would_not_run(
    stack: Stack, browser: Browser
) -> None:
    complaint = "Content Security Policy"
    async with page_of(browser, stack.gateway, allowed=complaint) as page:
        await page.goto("/console")
        async with page.expect_console_message(lambda one: complaint in one.text):
            await page.evaluate(
                """() => {
                    const one = document.createElement("script");
                    one.textContent = "window.hasRun = true";
                    document.body.append(one);
                }"""
            )

        assert await page.evaluate("window.hasRun") is None


async def test_older_calls_are_added_below(stack: Stack, browser: Browser) -> None:
    token = stack.token(a_user())
    for _ in range(30):
        stack.get("/api/users/me", token)
    eventually(
        lambda: len(items(stack, token, service="core-service")) == 30, 30.0, 0.5
    )
    async with page_of(browser, stack.gateway) as page:
        await sign_in(page, token, "/console?service=core-service")
        rows = page.locator("#calls tr")
        await expect(rows).to_have_count(25)
        await page.get_by_role("button", name="Show older calls").click()

        await expect(rows).to_have_count(30)
        await expect(page.get_by_role("button", name="older")).to_have_count(0)


async def test_an_export_is_what_the_api_gives(
    stack: Stack, browser: Browser, caller: tuple[str, str]
) -> None:
    async with page_of(browser, stack.gateway) as page:
        await sign_in(page, caller[1], "/console?service=openai")
        await page.get_by_label("Format").select_option("csv")
        async with page.expect_download() as waiting:
            await page.get_by_role("button", name="Download").click()
        download = await waiting.value
        content = (await download.path()).read_bytes()

        assert download.suggested_filename.endswith(".csv")
        for item in items(stack, caller[1], service="openai"):
            assert item["id"] in content.decode()

        async with page.expect_download() as waiting:
            await page.get_by_role("button", name="Download its manifest").click()
        manifest = (await (await waiting.value).path()).read_bytes()
        assert hashlib.sha256(content).hexdigest() in manifest.decode()


@pytest.mark.parametrize(
    ("scheme", "options"),
    [("light", {}), ("dark", PHONE)],
    ids=["wide and light", "phone and dark"],
)
async def test_it_has_no_barriers_that_can_be_found_by_rule(
    stack: Stack,
    browser: Browser,
    caller: tuple[str, str],
    scheme: str,
    options: dict[str, Any],
) -> None:
    open_ = partial(page_of, browser, stack.gateway, color_scheme=scheme, **options)
    async with open_() as page:
        await page.goto("/console")
        await expect(page.get_by_label("Name")).to_be_focused()
        await check_barriers(page)
        await sign_in(page, caller[1])
        await check_barriers(page)
        await sign_in_as_admin(page, stack)
        await check_barriers(page)


async def check_barriers(page: Page) -> None:
    found = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    # Wider than the window: a reader would have to scroll in two directions.
    overhang = await page.evaluate(
        "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert overhang <= 0


async def sign_in_as_admin(page: Page, stack: Stack) -> None:
    token = stack.token(role="admin")
    await page.evaluate(
        "token => sessionStorage.setItem('hubgate.token', token)", token
    )
    await page.reload()
    await expect(page.get_by_role("heading", level=1)).to_have_text("All usage")


async def test_only_who_sees_others_can_ask_for_them(
    stack: Stack, browser: Browser, caller: tuple[str, str]
) -> None:
    async with page_of(browser, stack.gateway) as page:
        await sign_in(page, caller[1])
        await expect(page.get_by_label("User", exact=True)).to_have_count(0)

        await sign_in_as_admin(page, stack)
        await page.get_by_label("User", exact=True).fill(caller[0])
        await page.get_by_label("Service", exact=True).fill("openai")
        await page.get_by_role("button", name="Apply").click()

        rows = page.locator("#calls tr")
        await expect(rows).to_have_count(2)
        users = [await rows.nth(n).locator("td").first.inner_text() for n in range(2)]
        assert users == [caller[0]] * 2


async def test_signing_out_ends_the_token_and_the_page_forgets_it(
    stack: Stack, browser: Browser
) -> None:
    async with page_of(browser, stack.gateway) as page:
        await page.goto("/console")
        await page.get_by_label("Name").fill("demo-manager")
        await page.get_by_label("Password").fill("demo")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Your usage")
        token = await page.evaluate("sessionStorage.getItem('hubgate.token')")

        async with page.expect_response("**/api/auth/logout"):
            await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("Name")).to_be_focused()

        assert await page.evaluate("sessionStorage.length + localStorage.length") == 0
        assert await page.locator("#view *").count() == 0
        eventually(lambda: stack.get("/api/usage/logs", token).status_code == 401, 10.0)


async def test_a_token_that_is_no_longer_good_asks_for_another(
    stack: Stack, browser: Browser
) -> None:
    async with page_of(browser, stack.gateway) as page:
        token = stack.token(a_user())
        await sign_in(page, token)
        revoked = stack.control("POST", "revocations", {"token": token})
        assert revoked.status_code < 300, revoked.text
        eventually(lambda: stack.get("/api/usage/logs", token).status_code == 401, 10.0)
        await page.get_by_role("button", name="Apply").click()

        await expect(page.get_by_role("alert")).to_contain_text("sign in again")
        assert await page.evaluate("sessionStorage.length") == 0


async def test_the_theme_is_the_readers_choice(stack: Stack, browser: Browser) -> None:
    async with page_of(browser, stack.gateway, color_scheme="light") as page:
        await page.goto("/console")
        colour = "getComputedStyle(document.body).backgroundColor"
        light = await page.evaluate(colour)
        await page.get_by_label("Theme").select_option("dark")
        dark = await page.evaluate(colour)
        await page.reload()

        assert light != dark
        assert await page.evaluate(colour) == dark


async def test_at_the_control_api_it_opens_with_a_token_and_says_so(
    stack: Stack, browser: Browser
) -> None:
    async with page_of(browser, stack.ready["control"]) as page:
        await page.goto("/console")
        await page.get_by_label("Name").fill("demo-user")
        await page.get_by_label("Password").fill("demo")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_contain_text("use a token")

        await page.get_by_label("Token", exact=True).fill(stack.ready["admin_token"])
        await page.get_by_role("button", name="Use the token").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("All usage")
