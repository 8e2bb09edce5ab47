"""The console for operators: keys, tenants, the migration, Flower."""

from __future__ import annotations

import re
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import expect
from stock_rig.child import Child
from support.api_rig import port_of, running_api
from support.console_rig import open_browser, open_tab
from support.keyed import make_key
from support.migration_rig import LocalExecutor, both_sides, celery_worker, completed, submit, until
from support.worker_rig import plain_environment

from crucible.embedded.server import EmbeddedServer, free_port
from crucible.models import Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

pytestmark = [pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One for all tests of this file."""
    async with open_browser() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServer]:
    """A queue server of this file's own."""
    async with EmbeddedServer(tmp_path_factory.mktemp("queue"), durable=False) as found:
        yield found


def url_of(client: aiohttp.ClientSession) -> str:
    """Where a client's api is."""
    return f"http://127.0.0.1:{port_of(client)}"


async def test_a_key_is_asked_for_and_a_wrong_one_refused(
    server: EmbeddedServer, browser: Browser
) -> None:
    """Kept in the tab, sent in a field; a tenant sees its own evaluations only."""
    queue = f"redis://127.0.0.1:{server.port}/1"
    ours, theirs = await make_key(queue, "ours"), await make_key(queue, "theirs")
    async with celery_worker(queue), running_api(queue) as client:
        for key, eval_id in ((ours, "is-ours"), (theirs, "is-theirs")):
            body = {"code": "print('secret')", "eval_id": eval_id}
            path = "/api/eval?wait=30"
            async with client.post(path, json=body, headers=key.headers) as response:
                assert response.status in (200, 202)
        async with open_tab(browser, url_of(client)) as tab:
            seen: list[str] = []
            tab.page.on("request", lambda request: seen.append(request.url))
            await tab.show("evaluations/is-ours")
            dialog = tab.page.get_by_role("dialog", name="API key")
            await dialog.get_by_label("Key").fill("crk_wrong")
            await dialog.get_by_role("button", name="Use it").click()
            await expect(dialog).to_contain_text("The key is not valid.")
            await dialog.get_by_label("Key").fill(ours.secret)
            await dialog.get_by_role("button", name="Use it").click()
            await expect(tab.page.get_by_label("Output", exact=True)).to_have_text("secret")
            await expect(tab.page.get_by_text("tenant ours")).to_be_visible()
            await expect(tab.page.get_by_role("link", name="Queues")).to_have_count(0)
            await tab.show("evaluations/is-theirs")
            await expect(tab.page.get_by_text("No evaluation has this id")).to_be_visible()
            assert not any(ours.secret in url for url in seen)
            assert await tab.page.evaluate("localStorage.length") == 0


async def test_keys_are_made_shown_once_and_revoked(
    server: EmbeddedServer, browser: Browser
) -> None:
    """The secret is in one dialog and nowhere else."""
    queue = f"redis://127.0.0.1:{server.port}/2"
    admin = await make_key(queue, "ops", "submit", "read", "admin", name="root")
    async with running_api(queue) as client, open_tab(browser, url_of(client)) as tab:
        await tab.show("keys")
        dialog = tab.page.get_by_role("dialog")
        await dialog.get_by_label("Key").fill(admin.secret)
        await dialog.get_by_role("button", name="Use it").click()
        await tab.button("Make a key").click()
        await dialog.get_by_label("Name").fill("<b>grader</b>")
        await dialog.get_by_label("Tenant").fill("school")
        await dialog.get_by_label("Tier").select_option("premium")
        await dialog.get_by_role("button", name="Make it").click()
        secret = await dialog.locator("pre").inner_text()
        assert secret.startswith("crk_")
        await dialog.get_by_role("button", name="I have it").click()
        row = tab.page.locator("tbody tr").filter(has_text="<b>grader</b>")
        await expect(row).to_contain_text("premium")
        assert secret not in await tab.page.content()
        await row.get_by_role("button", name="Revoke").click()
        await dialog.get_by_role("button", name="Revoke").click()
        await expect(row).to_contain_text("revoked")
        headers = {"Authorization": f"Bearer {secret}"}
        async with client.get("/api/v1/me", headers=headers) as response:
            assert response.status == 401


async def test_a_queue_is_purged_after_a_question(server: EmbeddedServer, browser: Browser) -> None:
    """How much is lost is said before; keeping it changes nothing."""
    queue = f"redis://127.0.0.1:{server.port}/7"
    async with running_api(queue) as client, open_tab(browser, url_of(client)) as tab:
        for number in range(3):
            await submit(client, "1", eval_id=f"waits-{number}", priority=1)
        await tab.show("queues")
        dialog = tab.page.get_by_role("dialog")
        await tab.button("Purge batch").click()
        await expect(dialog).to_contain_text("3 messages are deleted for good")
        await dialog.get_by_role("button", name="Keep it").click()
        await tab.button("Purge batch").click()
        await dialog.get_by_role("button", name="Delete them").click()
        await expect(tab.page.get_by_text("3 messages deleted from batch.")).to_be_visible()
        await expect(tab.button("Purge batch")).to_be_disabled()
        async with client.get("/api/eval/waits-0") as response:
            assert (await response.json())["status"] == "cancelled"


async def test_a_webhook_is_registered_and_a_delivery_replayed(
    server: EmbeddedServer, browser: Browser
) -> None:
    """Its secret is shown once; a delivery that failed says why."""
    queue = f"redis://127.0.0.1:{server.port}/8"
    async with AsyncExitStack() as stack:
        # Nobody listens there, so the first attempt fails.
        receiver = f"http://127.0.0.1:{free_port()}/hook"
        await stack.enter_async_context(celery_worker(queue))
        client = await stack.enter_async_context(
            running_api(queue, webhook_networks=("127.0.0.0/8",))
        )
        tab = await stack.enter_async_context(open_tab(browser, url_of(client)))
        await tab.show("webhooks")
        await tab.button("Register one").click()
        dialog = tab.page.get_by_role("dialog")
        await dialog.get_by_label("URL").fill(receiver)
        await dialog.get_by_role("button", name="Register").click()
        await expect(dialog.locator("pre")).to_contain_text("whsec_")
        await dialog.get_by_role("button", name="I have it").click()
        submitted = await submit(client, "print(1)", eval_id="delivered")
        await completed(client, submitted["eval_id"])
        await tab.button("Deliveries").click()
        row = tab.page.get_by_role("region", name="Deliveries").locator("tbody tr")
        await expect(row).to_contain_text("delivered")
        await expect(row).to_contain_text("retrying")
        await row.get_by_role("button", name="Replay").click()
        await expect(tab.page.get_by_text("It is delivered once more")).to_be_visible()
        assert await tab.violations() == []


async def test_traffic_is_moved_and_rolled_back(server: EmbeddedServer, browser: Browser) -> None:
    """The slider moves evaluations to Celery; one button moves all of them back."""
    queue = f"redis://127.0.0.1:{server.port}/3"
    async with AsyncExitStack() as stack:
        client, _ = await stack.enter_async_context(
            both_sides(queue, celery_percentage=0.0, celery_enabled=True)
        )
        tab = await stack.enter_async_context(open_tab(browser, url_of(client)))
        first = await submit(client, "print(1)")
        assert first["queue_system"] == "legacy"
        await completed(client, first["eval_id"])
        await tab.show("migration")
        await tab.page.get_by_label("To Celery").fill("100")
        await tab.button("Send 100 % to Celery").click()
        await expect(tab.page.get_by_text("100 % of new evaluations go to Celery.")).to_be_visible()
        moved = await submit(client, "print(2)")
        assert moved["queue_system"] == "celery"
        await completed(client, moved["eval_id"])
        for side in ("legacy", "celery"):
            await expect(tab.page.locator(f"[data-side={side}]")).to_have_text("1")
        await tab.button("Roll back").click()
        await tab.page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
        await expect(tab.button("End the rollback")).to_be_visible()
        assert (await submit(client, "print(3)"))["queue_system"] == "legacy"
        # What was changed can be undone from the notice of the change.
        notice = tab.page.locator(".notice").filter(has_text="Rolled back")
        await notice.get_by_role("button", name="Undo").click()
        await expect(tab.button("Roll back")).to_be_visible()
        assert (await submit(client, "print(4)"))["queue_system"] == "celery"
        assert await tab.violations() == []


async def test_mismatches_are_side_by_side(server: EmbeddedServer, browser: Browser) -> None:
    """What both sides made of a program, with the fields that differ."""
    queue = f"redis://127.0.0.1:{server.port}/4"
    wrong = LocalExecutor(lambda outcome: _with_output(outcome, b"<i>43</i>\n"))
    async with AsyncExitStack() as stack:
        client, _ = await stack.enter_async_context(
            both_sides(queue, celery_executor=wrong, celery_percentage=0.0, dual_write=True)
        )
        tab = await stack.enter_async_context(open_tab(browser, url_of(client)))
        await submit(client, "print(6 * 7)", eval_id="differs")
        await tab.show("migration")
        found = tab.page.locator("details").filter(has_text="differs")
        await found.locator("summary").click()
        await expect(found.get_by_label("output of the legacy queue")).to_contain_text("42")
        await expect(found.get_by_label("output of Celery")).to_contain_text("<i>43</i>")


def _with_output(outcome: Outcome, output: bytes) -> Outcome:
    return Outcome(verdict=outcome.verdict, exit_code=outcome.exit_code, stdout=output)


async def test_flower_is_one_click_away_and_for_admins(
    server: EmbeddedServer, browser: Browser
) -> None:
    """Its pages come through the api with their scripts, and show the workers."""
    queue, port = f"redis://127.0.0.1:{server.port}/5", free_port()
    admin = await make_key(queue, "ops", "submit", "read", "admin")
    reader = await make_key(queue, "ops")
    flower = Child(
        [sys.executable, "-m", "celery", "-A", "crucible.celery_app", "flower",
         "--address=127.0.0.1", f"--port={port}", "--url_prefix=flower"],
        plain_environment(CELERY_BROKER_URL=queue),
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        child = await stack.enter_async_context(flower)
        await stack.enter_async_context(celery_worker(queue))
        client = await stack.enter_async_context(
            running_api(queue, flower_url=f"http://127.0.0.1:{port}")
        )
        await child.wait_for_log("Visit me at")
        for headers, status in (({}, 401), (reader.headers, 403), (admin.headers, 200)):
            async with client.get("/flower/", headers=headers) as response:
                assert response.status == status
        tab = await stack.enter_async_context(open_tab(browser, url_of(client)))
        await tab.show("workers")
        dialog = tab.page.get_by_role("dialog")
        await dialog.get_by_label("Key").fill(admin.secret)
        await dialog.get_by_role("button", name="Use it").click()
        await tab.page.get_by_role("navigation").get_by_role("link", name="Flower").click()
        await tab.page.wait_for_url("**/flower/**")

        async with client.get("/api/v1/workers", headers=admin.headers) as response:
            (worker,) = (await response.json())["workers"]

        async def sees_worker() -> bool:
            await tab.page.goto(f"{url_of(client)}/flower/workers")
            return worker["name"] in await tab.page.content()

        await until(sees_worker)
        assert await tab.page.evaluate("typeof window.jQuery") == "function"
        (cookie,) = await tab.page.context.cookies(f"{url_of(client)}/flower/")
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert await tab.page.context.cookies(f"{url_of(client)}/api/eval") == []


async def test_without_a_flower_the_page_says_how_to_have_one(
    server: EmbeddedServer, browser: Browser
) -> None:
    """The command and the setting, with a way back."""
    queue = f"redis://127.0.0.1:{server.port}/6"
    async with running_api(queue) as client, open_tab(browser, url_of(client)) as tab:
        await tab.page.goto(f"{url_of(client)}/flower/")
        await expect(tab.page.locator("main")).to_contain_text("CRUCIBLE_FLOWER_URL")
        await expect(tab.page.locator("main")).to_contain_text(re.compile("--url_prefix=flower"))
        await tab.page.get_by_role("link", name="To the console").click()
        await expect(tab.page.locator("h1")).to_have_text("Submit")
