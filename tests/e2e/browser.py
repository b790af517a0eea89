"""Debian's own Chromium without a screen; put on the machine where that is possible."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

_CHROMIUM = Path("/usr/bin/chromium")
_PACKAGES = ("chromium", "fonts-dejavu-core")
_INSTALL_DEADLINE_S = 400.0
#: For an action of the browser's, in milliseconds; a busy machine is slow.
_PATIENCE_MS = 15_000.0


def chromium() -> Path:
    """Where it is; skips the test where there is none, and fails it in CI."""
    if not _CHROMIUM.exists() and os.geteuid() == 0 and shutil.which("apt-get"):
        _install()
    if not _CHROMIUM.exists():
        message = "no /usr/bin/chromium: apt-get install " + " ".join(_PACKAGES)
        if "CI" in os.environ:  # noqa: TID251 - said by the machine, not by a stack
            pytest.fail(message)
        pytest.skip(message)
    return _CHROMIUM


def _install() -> None:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}  # noqa: TID251 - of a child process
    for arguments in (
        ("update",),
        ("install", "--yes", "--no-install-recommends", *_PACKAGES),
    ):
        subprocess.run(
            ["/usr/bin/apt-get", "--quiet", *arguments],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_INSTALL_DEADLINE_S,
            check=False,
        )


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """One process for many pages."""
    expect.set_options(timeout=_PATIENCE_MS)
    # Chromium's own sandbox needs what root in a container does not have.
    arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=arguments
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def page_of(
    browser: Browser, base_url: str, *, allowed: str | None = None, **options: Any
) -> AsyncIterator[Page]:
    """A person's own window; fails on what the browser complains about in it.

    Refused requests are the page's to tell, and no complaint; nor is what says
    `allowed`.
    """
    context = await browser.new_context(
        base_url=base_url, timezone_id="Europe/Berlin", locale="en-GB", **options
    )
    context.set_default_timeout(_PATIENCE_MS)
    page = await context.new_page()
    complaints: list[str] = []
    asked: set[str] = set()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    expected = ("Failed to load resource", *([allowed] if allowed else []))

    def said(message: ConsoleMessage) -> None:
        is_expected = any(one in message.text for one in expected)
        if message.type == "error" and not is_expected:
            complaints.append(message.text)

    page.on("console", said)
    page.on("request", lambda request: asked.add(request.url))
    try:
        yield page
    finally:
        await context.close()
    assert complaints == []
    elsewhere = {
        one for one in asked if not one.startswith((base_url, f"blob:{base_url}"))
    }
    assert elsewhere == set()
