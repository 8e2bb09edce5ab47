"""The console in front of a whole installation, as its users have it."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import expect
from redis.asyncio import Redis
from support.console_rig import Console, open_browser, open_tab
from support.worker_rig import crucible

from crucible.broker.wire.encode import encode_task
from crucible.embedded.server import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser
    from stock_rig.child import Child

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
]

#: What hostile programs and their metadata have; none of it may become part of the page.
XSS = (
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    "<svg/onload=window.hit=1>",
    '"><iframe srcdoc="<script>parent.hit=1</script>">',
    "javascript:window.hit=1",
    "</textarea><script>window.hit=1</script>",
    "</script><script>window.hit=1</script>",
    "${window.hit=1}{{window.hit=1}}",
)
START_S = 120.0


@dataclass
class Installation:
    """``crucible up`` and a browser."""

    url: str
    child: Child
    browser: Browser
    client: aiohttp.ClientSession

    async def submit(self, code: str, **fields: Any) -> str:
        """Submit a program; returns its id."""
        async with self.client.post("/api/eval", json={"code": code, **fields}) as response:
            assert response.status in (200, 202), await response.text()
            return str((await response.json())["eval_id"])

    async def ended(self, eval_id: str) -> dict[str, Any]:
        """An evaluation after its end."""
        while True:
            async with self.client.get(f"/api/eval/{eval_id}", params={"wait": "20"}) as response:
                found: dict[str, Any] = await response.json()
            if found["status"] in ("completed", "failed", "cancelled"):
                return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    """One for all tests of this file."""
    port, data = free_port(), tmp_path_factory.mktemp("up")
    url = f"http://127.0.0.1:{port}"
    started = crucible(["up", "--data-dir", str(data), "--port", str(port)])
    async with started as child, open_browser() as browser, aiohttp.ClientSession(url) as client:
        await child.wait_for_log(rf"^api +{re.escape(url)}", START_S)
        yield Installation(url, child, browser, client)


@pytest_asyncio.fixture(loop_scope="module")
async def console(installed: Installation) -> AsyncIterator[Console]:
    """A tab of the test's own."""
    async with open_tab(installed.browser, installed.url) as tab:
        yield tab


async def test_a_program_runs_and_its_output_appears(console: Console) -> None:
    """Written in the editor, followed by events, explained in words."""
    run = await console.run(
        "import time\nprint('first', flush=True)\ntime.sleep(6)\nprint(6 * 7)\n"
    )
    # While it still runs; all of it once it has ended.
    await expect(run.get_by_label("Output so far")).to_have_text("first")
    await expect(run.locator(".badge")).to_have_text("running")
    await expect(run.get_by_label("Output", exact=True)).to_contain_text("42")
    await expect(run).to_contain_text("The program ended by itself with exit code 0.")


async def test_tests_tick_and_each_is_listed(console: Console) -> None:
    """A graded program shows how many tests are done, then what came of each."""
    await console.show("submit")
    await console.write("import time\nn = int(input())\ntime.sleep(2)\nprint(n * n)\n")
    await console.page.get_by_text("Tests", exact=True).click()
    for number, expected in ((3, 9), (4, 16), (5, 0)):
        await console.button("Add a test").click()
        last = console.page.get_by_role("group", name=re.compile("^Test ")).last
        await last.get_by_label("Input").fill(str(number))
        await last.get_by_label("Expected").fill(str(expected))
    await console.button("Run").click()
    run = console.page.get_by_role("region", name="Run")
    await expect(run).to_contain_text("of 3 tests done")
    await expect(run.locator("tbody tr")).to_have_count(3)
    await expect(run).to_contain_text("2 of 3 tests passed")


async def test_a_running_program_is_cancelled(console: Console) -> None:
    """By the button beside it; the page says that somebody did it."""
    run = await console.run("import time\ntime.sleep(60)\n")
    await expect(run.locator(".badge")).to_have_text("running")
    await run.get_by_role("button", name="Cancel").click()
    await expect(run).to_contain_text("Somebody cancelled it.")


async def test_an_evaluation_is_found_by_its_id(installed: Installation, console: Console) -> None:
    """The key ``/`` goes to the box; an id opens what happened."""
    await installed.ended(await installed.submit("raise SystemExit(3)", eval_id="to-be-found"))
    await console.show("queues")
    await console.page.keyboard.press("/")
    await console.page.keyboard.type("to-be-found")
    await console.page.keyboard.press("Enter")
    await expect(console.page.locator("h1")).to_have_text("to-be-found")
    happened = console.page.get_by_role("region", name="What happened")
    await expect(happened).to_contain_text("exited with 3.")
    await expect(happened.get_by_role("img", name=re.compile("run [0-9]+ ms"))).to_be_visible()


async def test_lines_are_drawn_by_what_the_first_load_leaves_out(console: Console) -> None:
    """The library for them, a quarter of all scripts, comes with the first line to draw."""
    loaded = "performance.getEntriesByType('resource').map(entry => new URL(entry.name).pathname)"
    await console.show("submit")
    assert not [path for path in await console.page.evaluate(loaded) if "uPlot" in path]
    await console.show("queues")
    await expect(console.page.locator(".spark canvas").first).to_be_visible()
    assert [path for path in await console.page.evaluate(loaded) if "uPlot" in path]


async def test_filters_are_in_the_url_and_the_list_updates_itself(
    installed: Installation, console: Console
) -> None:
    """The URL of a filtered list shows the same to somebody else."""
    await installed.ended(await installed.submit("1/0", metadata={"team": "filters"}))
    await installed.ended(await installed.submit("print(1)", metadata={"team": "filters"}))
    await console.show("evaluations?q=filters")
    rows = console.page.locator(".vrow")
    await expect(rows).to_have_count(2)
    await console.page.get_by_label("Verdict").select_option("nonzero_exit")
    await expect(rows).to_have_count(1)
    shared = console.page.url
    assert "verdict=nonzero_exit" in shared
    assert "q=filters" in shared
    async with open_tab(installed.browser, installed.url) as other:
        await other.page.goto(shared)
        await expect(other.page.locator(".vrow")).to_have_count(1)
    await installed.ended(await installed.submit("2/0", metadata={"team": "filters"}))
    await expect(rows).to_have_count(2)


async def test_rows_are_chosen_with_keys_and_retried_together(
    installed: Installation, console: Console
) -> None:
    """``j`` and ``x`` select; the selected ones are run again."""
    for number in range(2):
        await installed.ended(await installed.submit(f"print({number})", metadata={"set": "many"}))
    await console.show("evaluations?q=many")
    await expect(console.page.locator(".vrow")).to_have_count(2)
    for key in "jxjx":
        await console.page.keyboard.press(key)
    chosen = console.page.get_by_role("group", name="Selected evaluations")
    await expect(chosen).to_contain_text("2 selected")
    # Both are to be listed as ended, which the historian writes a little later than the answer.
    await chosen.get_by_role("button", name="Retry 2").click()
    await expect(console.page.get_by_text("2 run again.")).to_be_visible()
    await expect(console.page.locator(".vrow")).to_have_count(4)


async def test_what_ran_is_edited_and_run_again(installed: Installation, console: Console) -> None:
    """The program of an ended evaluation opens in the editor, with what came with it."""
    await installed.ended(
        await installed.submit("print(input())", stdin="before", eval_id="to-be-edited")
    )
    await console.show("evaluations/to-be-edited")
    await console.button("Edit and run").click()
    await expect(console.page.locator("h1")).to_have_text("Submit")
    await expect(console.page.get_by_label("Standard input")).to_have_value("before")
    await console.page.get_by_label("Standard input").fill("after")
    await console.button("Run").click()
    run = console.page.get_by_role("region", name="Run")
    await expect(run.get_by_label("Output", exact=True)).to_have_text("after")


async def test_a_program_is_shared_in_the_fragment(
    installed: Installation, console: Console
) -> None:
    """The link has the program and what comes with it; no server sees it."""
    await console.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await console.show("submit")
    await console.write("print('shared')\n")
    await console.page.get_by_label("Standard input").fill("with it")
    await console.button("Share").click()
    await expect(console.page.get_by_text("The link is copied.")).to_be_visible()
    link = await console.page.evaluate("navigator.clipboard.readText()")
    async with open_tab(installed.browser, installed.url) as other:
        asked: list[str] = []
        other.page.on("request", lambda request: asked.append(unquote(request.url)))
        await other.page.goto(link)
        await expect(other.page.get_by_label("Standard input")).to_have_value("with it")
        await expect(other.page.get_by_label("Program", exact=True)).to_have_value(
            "print('shared')\n"
        )
        assert not any("p=" in url for url in asked)


async def test_an_assessment_is_started_followed_and_reported(
    installed: Installation, console: Console
) -> None:
    """From the dialog to its score, its cases, and what changed since an earlier one."""
    for number in range(2):
        await console.show("assessments")
        await console.button("Start one").click()
        dialog = console.page.get_by_role("dialog")
        await dialog.get_by_label("Suite, as JSON").fill("{")
        await dialog.get_by_role("button", name="Start it").click()
        await expect(dialog.get_by_role("alert")).to_be_visible()
        wrong = "print(1)" if number else "print(2)"
        suite = {"name": f"suite {number}", "cases": [
            {"id": "right", "code": "print(1)"},
            {"id": "two", "name": "<b>", "code": wrong, "tests": [{"id": "1", "expected": "1"}]},
        ]}  # fmt: skip
        await dialog.get_by_label("Suite, as JSON").fill(json.dumps(suite))
        await dialog.get_by_role("button", name="Start it").click()
        await expect(console.page.locator("h1")).to_have_text(f"suite {number}")
        cases = console.page.get_by_role("region", name="Cases")
        await expect(cases.locator("tbody tr")).to_have_count(2)
    await expect(console.page.get_by_text("100 %", exact=True).first).to_be_visible()
    await expect(console.page.get_by_role("region", name="Progress")).to_contain_text("passed")
    earlier = console.page.get_by_label("An earlier assessment")
    await earlier.select_option(index=1)
    await expect(console.page.get_by_text("improvements: 1")).to_be_visible()
    assert await console.violations() == []
    async with console.page.expect_download() as download:
        await console.button("HTML").click()
    assert (await download.value).suggested_filename.endswith(".html")


async def test_dead_letters_are_replayed(installed: Installation, console: Console) -> None:
    """Each with its reason; one or all go back into their queues."""
    found = re.search(r"queue +(redis://\S+)", installed.child.log)
    assert found is not None
    async with Redis.from_url(found[1]) as redis:
        for number in range(3):
            message = _unknown_task(f"unknown-{number}", XSS[number])
            await redis.lpush("evaluation", message)
    await console.show("dead-letters")
    rows = console.page.locator("tbody tr")
    await expect(rows).to_have_count(3)
    await rows.first.get_by_role("button", expanded=False).click()
    await expect(console.page.get_by_label("Decoded body")).to_contain_text('"x"')
    await console.button("Replay all 3").click()
    await expect(console.page.get_by_text("3 put back into their queues.")).to_be_visible()
    # Nobody knows the task, so they are dead letters again; that is up to date without a reload.
    await expect(rows).to_have_count(3)
    assert await console.page.evaluate("window.hit") is None
    await console.page.get_by_label("Select all that are listed").check()
    await console.button("Delete").click()
    await console.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(console.page.get_by_text("No dead letters")).to_be_visible()


def _unknown_task(task_id: str, name: str) -> bytes:
    return encode_task(name, task_id=task_id, args=["x"], queue="evaluation")


async def test_what_programs_write_is_only_shown(installed: Installation, console: Console) -> None:
    """Markup, escape sequences and bidirectional controls do nothing to the page."""
    text = "\n".join(XSS) + "\x1b[31mred\x1b[0m \u202egnp.exe \u200b"
    eval_id = "harmless"
    await installed.ended(
        await installed.submit(
            f"import sys\nprint({text!r})\nsys.stderr.write({text!r})\n# {XSS[0]} {XSS[5]}",
            eval_id=eval_id,
            metadata={"note": XSS[1]},
            files=[{"name": "<img src=x onerror=hit=1>.txt", "content": XSS[0]}],
            output_files=["<img*"],
        )
    )
    await console.show(f"evaluations/{eval_id}")
    output = console.page.get_by_label("Output", exact=True)
    await expect(output).to_contain_text(XSS[0])
    await expect(output).to_contain_text("U+202E")
    await expect(output).to_contain_text("\u241b[31mred")
    await expect(console.page.get_by_label("Program that was run")).to_be_attached()
    await console.show("evaluations?q=harmless")
    await expect(console.page.locator(".vrow")).to_have_count(1)
    assert await console.page.evaluate("window.hit") is None
    assert await console.page.locator("#console iframe, #console img, #console script").count() == 0


async def test_a_line_of_a_megabyte_does_not_hold_up_the_page(
    installed: Installation, console: Console
) -> None:
    """It is cut, and more of it is shown when asked for; it can be downloaded whole."""
    await installed.ended(
        await installed.submit(
            "print('x' * 1_000_000)\nfor n in range(5000): print(n)", eval_id="long-line"
        )
    )
    await console.show("evaluations/long-line")
    output = console.page.get_by_label("Output", exact=True)
    await expect(output.get_by_role("button", name="more characters")).to_be_visible()
    assert await output.locator(".line").count() < 200
    assert len(await output.inner_text()) < 20_000


async def test_two_thousand_rows_scroll(installed: Installation, console: Console) -> None:
    """Only rows in view are in the page, and pages follow by themselves."""
    items = [
        {"code": f"print({n})", "metadata": {"set": "bulk"}, "priority": 0} for n in range(2000)
    ]
    async with installed.client.post("/api/eval/batch", json=items) as response:
        assert response.status == 202
    await _listed(installed.client, "bulk", 2000)
    await console.show("evaluations?q=bulk")
    listed = console.page.get_by_role("status").filter(has_text="listed")
    table = console.page.get_by_role("table", name="Evaluations")
    await expect(listed).to_contain_text("100 listed")
    for _ in range(40):
        await table.evaluate("one => { one.scrollTop = one.scrollHeight }")
        if "2,000 listed" in await listed.inner_text():
            break
        await console.page.wait_for_timeout(100)
    await expect(listed).to_contain_text("2,000 listed")
    assert await console.page.locator(".vrow").count() < 100
    slowest = await table.evaluate(
        """async table => {
            let last = performance.now(), slowest = 0;
            for (let step = 0; step < 60; step += 1) {
                table.scrollTop -= 900;
                await new Promise(requestAnimationFrame);
                const now = performance.now();
                slowest = Math.max(slowest, now - last);
                last = now;
            }
            return slowest;
        }"""
    )
    # A screen that drew every row would need seconds for one step.
    assert slowest < 1000
    async with installed.client.post("/api/v1/queues/batch/purge") as response:
        assert response.status == 200


SCREENS = (
    "submit",
    "evaluations",
    "evaluations/for-axe",
    "queues",
    "workers",
    "assessments",
    "dead-letters",
    "migration",
    "webhooks",
    "keys",
)


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_axe_finds_nothing_on_any_screen(installed: Installation, colours: Any) -> None:
    """Labels, contrast, structure: WCAG AA and axe's own rules."""
    await installed.ended(await installed.submit("print(1)\n1/0", eval_id="for-axe"))
    async with open_tab(installed.browser, installed.url, color_scheme=colours) as tab:
        found = {}
        for screen in SCREENS:
            await tab.show(screen)
            await tab.filled()
            if violations := await tab.violations():
                found[screen] = violations
        await tab.show("submit")
        await tab.page.keyboard.press("Escape")
        await tab.page.locator("h1").click()
        await tab.page.keyboard.press("?")
        await expect(tab.page.get_by_role("dialog")).to_be_visible()
        if violations := await tab.violations():
            found["dialog"] = violations
        assert found == {}


async def test_it_fits_a_phone(installed: Installation) -> None:
    """No screen is wider than the window."""
    narrow = {"width": 360, "height": 740}
    async with open_tab(installed.browser, installed.url, viewport=narrow) as tab:
        for screen in SCREENS:
            await tab.show(screen)
            await tab.filled()
            width = await tab.page.evaluate("document.documentElement.scrollWidth")
            assert width <= 360, screen


async def test_the_keyboard_goes_everywhere(console: Console) -> None:
    """``g`` and a letter change the screen; the focus is visible."""
    await console.show("submit")
    await console.page.locator("h1").click()
    for letter, title in (("e", "Evaluations"), ("w", "Workers"), ("s", "Submit")):
        await console.page.keyboard.press("g")
        await console.page.keyboard.press(letter)
        await expect(console.page.locator("h1")).to_have_text(title)
    await console.page.keyboard.press("Tab")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert await console.page.evaluate(outline) != "none"


async def _listed(client: aiohttp.ClientSession, word: str, wanted: int) -> None:
    """Return once the history has so many evaluations."""
    found = 0
    while found < wanted:
        found, query = 0, {"q": word, "limit": "500"}
        while True:
            async with client.get("/api/eval", params=query) as response:
                page = await response.json()
            found += len(page["items"])
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]


async def test_the_first_load_is_small(installed: Installation) -> None:
    """Page, script and style together stay under 120 KB, and may be kept."""
    async with aiohttp.ClientSession(installed.url, auto_decompress=False) as client:
        accepts = {"Accept": "text/html", "Accept-Encoding": "gzip"}
        async with client.get("/", headers=accepts) as response:
            assert response.headers["Cache-Control"] == "no-cache"
            page = await response.read()
        assets = re.findall(rb'"(/console/[^"]+)"', gzip.decompress(page))
        assert len(assets) == 2
        total = len(page)
        for path in assets:
            async with client.get(path.decode(), headers=accepts) as response:
                assert response.headers["Content-Encoding"] == "gzip"
                assert "immutable" in response.headers["Cache-Control"]
                assert "unsafe" not in response.headers["Content-Security-Policy"]
                total += len(await response.read())
        assert total < 120_000
        async with client.get("/console/main-OLD.js") as response:
            assert response.status == 404


async def test_the_api_goes_away_and_comes_back(installed: Installation, console: Console) -> None:
    """Both are said, and the list goes on by itself."""
    await console.show("queues")
    await expect(console.page.get_by_role("table")).to_be_visible()
    pid = await _child_of(installed.child.pid, "api")
    os.kill(pid, signal.SIGKILL)
    await console.page.evaluate("location.hash = '#/workers'")
    away = console.page.get_by_text("The api does not answer")
    await expect(away).to_be_visible()
    await expect(away).to_have_count(0)
    await expect(console.page.get_by_text("tasks running")).to_be_visible()


async def _child_of(parent: int, command: str) -> int:
    reading = await asyncio.create_subprocess_exec(
        "pgrep", "-P", str(parent), "-f", f"crucible {command}$", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await reading.communicate()
    return int(out.split()[0])
