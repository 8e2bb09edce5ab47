"""The console in a real browser, for tests."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.async_api import async_playwright, expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Locator, Page

ROOT = Path(__file__).parents[2]
#: Milliseconds for what appears by itself; only a fault uses them up.
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)
_AXE = ROOT / ".cache" / "console" / "node_modules" / "axe-core" / "axe.min.js"
#: What a browser reports where a page's own request was refused; the console shows it itself.
_REFUSED = re.compile(r"Failed to load resource")


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """Debian's Chromium, without a window."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    assert binary, "there is no chromium; scripts/setup --tests installs it"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


class Console:
    """One tab with the console.

    Attributes:
        page: Playwright's.
        faults: errors of scripts, and what the Content-Security-Policy refused.
        not_loaded: what a request came to that brought nothing, for whoever looks into a fault.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.faults: list[str] = []
        self.not_loaded: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._noted)
        page.on("requestfailed", self._failed)
        page.on("response", self._answered)

    def _noted(self, message: Any) -> None:
        if message.type == "error" and not _REFUSED.match(message.text):
            self.faults.append(message.text)

    def _failed(self, request: Any) -> None:
        self.not_loaded.append(f"{request.url}: {request.failure}")

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.not_loaded.append(f"{response.url}: {response.status}")

    async def show(self, place: str) -> None:
        """Open a place of the console, such as ``evaluations?status=failed``."""
        await self.page.goto(f"{self.url}/#/{place}")
        await expect(self.page.locator("h1")).to_be_visible()

    async def filled(self) -> None:
        """Return once the screen shows what it has asked for, not only its title."""
        await expect(self.page.locator("main > *").nth(1)).to_be_attached()
        await expect(self.page.get_by_text("Asking…")).to_have_count(0)

    def button(self, name: str, **options: Any) -> Locator:
        """A button by its name."""
        return self.page.get_by_role("button", name=name, exact=True, **options)

    async def write(self, code: str) -> None:
        """Replace the program in the editor."""
        editor = self.page.get_by_label("Program", exact=True)
        await editor.fill(code)

    async def run(self, code: str) -> Locator:
        """Submit a program on the first screen; returns the run."""
        await self.show("submit")
        await self.write(code)
        await self.button("Run").click()
        run = self.page.get_by_role("region", name="Run")
        await expect(run).to_be_visible()
        return run

    async def violations(self) -> list[str]:
        """What axe finds wrong with the screen, one line each."""
        if not await self.page.evaluate("() => 'axe' in window"):
            await self.page.evaluate(_AXE.read_text("utf-8"))
        found = await self.page.evaluate(
            "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"
        )
        return [
            f"{one['id']}: {json.dumps(one['nodes'][0]['html'])[:200]} ({len(one['nodes'])}) "
            f"{one['nodes'][0]['failureSummary'][:200]}"
            for one in found
        ]


@asynccontextmanager
async def open_tab(browser: Browser, url: str, **options: Any) -> AsyncIterator[Console]:
    """A tab of its own: no key, no draft, no cookie of others. Scripts must not have failed."""
    wide = {"width": 1280, "height": 800}
    context = await browser.new_context(**{"viewport": wide, **options})
    context.set_default_timeout(PATIENCE_MS)
    try:
        console = Console(await context.new_page(), url)
        yield console
        assert not console.faults, (console.faults, console.not_loaded)
    finally:
        await context.close()
