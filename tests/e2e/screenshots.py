"""`python -m tests.e2e.screenshots`: makes docs/screenshots anew.

A demo with a generated quarter in its ledger, looked at in a real browser.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
from playwright.async_api import Browser, expect

from runtime.clock import SystemClock
from tests.e2e.browser import page_of, running_browser
from tests.e2e.stack import Stack, running_stack
from usage_sink import rollups

_FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
_DAYS = 95
_ROWS = (Path(__file__).parent / "screenshots.sql").read_text("utf-8")
_WIDE = {"viewport": {"width": 1200, "height": 1000}}
_PHONE = {"viewport": {"width": 375, "height": 800}, "device_scale_factor": 2}


@dataclass(frozen=True)
class _Picture:
    name: str
    role: str
    query: str
    options: dict[str, Any]
    at: str = "title"


_PICTURES = (
    _Picture(
        "console-admin", "admin", "period=30d", {**_WIDE, "color_scheme": "light"}
    ),
    _Picture(
        "console-admin-analysis",
        *("admin", "period=30d", {**_WIDE, "color_scheme": "light"}),
        at="latency",
    ),
    _Picture(
        "console-user-dark",
        *("user", "period=30d&measure=tokens", {**_WIDE, "color_scheme": "dark"}),
    ),
    _Picture(
        "console-phone",
        *("user", "period=7d", {**_PHONE, "color_scheme": "light"}),
        at="over-time",
    ),
)


async def main(stack: Stack) -> None:
    await _fill(stack.ready["database_url"])
    _FOLDER.mkdir(exist_ok=True)
    async with running_browser() as browser:
        for one in _PICTURES:
            await _take(browser, stack, one)


async def _fill(url: str) -> None:
    today = datetime.fromtimestamp(SystemClock().now(), UTC).date()
    ledger = await asyncpg.connect(url)
    try:
        for ago in range(_DAYS, -1, -1):
            day = today - timedelta(days=ago)
            # Growing, and quieter at weekends.
            rows = (500 + 6 * (_DAYS - ago)) // (1 if day.isoweekday() < 6 else 2)
            await ledger.execute("SELECT usage_logs_make_partition($1)", day)
            await ledger.execute(_ROWS, day, rows)
        for one in rollups.ROLLUPS:
            await ledger.execute(f"DELETE FROM {one.name}")
            await ledger.execute(
                f"INSERT INTO {one.name} ({', '.join(one.columns)}) "
                f"{rollups.calculated(one, 'usage_logs')}"
            )
    finally:
        await ledger.close()


async def _take(browser: Browser, stack: Stack, picture: _Picture) -> None:
    async with page_of(browser, stack.gateway, **picture.options) as page:
        await page.goto(f"/console?{picture.query}")
        token = stack.ready["tokens"][picture.role]
        await page.get_by_label("Token", exact=True).fill(token)
        await page.get_by_role("button", name="Use the token").click()
        await expect(page.locator("#title")).to_be_visible()
        await page.evaluate(
            "id => document.getElementById(id).scrollIntoView()", picture.at
        )
        if picture.at == "title":
            await page.evaluate("scrollTo(0, 0)")
        await page.screenshot(path=_FOLDER / f"{picture.name}.png")


if __name__ == "__main__":
    with (
        TemporaryDirectory() as folder,
        running_stack(Path(folder) / "data") as one_stack,
    ):
        asyncio.run(main(one_stack))
