"""The ACL rights of docs/queue-server.md: what they allow is all that is used."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from support.api_rig import running_api
from support.history_rig import migrated, rows_of

from crucible.breaker import BreakerPolicy
from crucible.broker import Publisher
from crucible.broker.admin.fleet import list_workers
from crucible.broker.admin.operator import Admin
from crucible.broker.control.client import ControlClient
from crucible.embedded.server import EmbeddedServer
from crucible.errors import TaskFailed
from crucible.history.historian import open_historian
from crucible.history.schema import evaluations
from crucible.redis_keys import Keys
from crucible.worker import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    import aiohttp

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "queue-server.md"
SCRIPTS = sorted((ROOT / "crucible").rglob("*.lua"))
SERVERS = ROOT / ".cache" / "servers"
BINARIES = [None, SERVERS / "redis-6.2/redis-server", SERVERS / "redis-7.0/redis-server"]


def rules() -> list[str]:
    """The rules of the page's ``ACL SETUSER``, without the user's name and password."""
    [command] = re.findall(r"ACL SETUSER crucible on >PASSWORD ([^`]*)```", PAGE.read_text())
    return str(command).replace("\\\n", " ").split()


@pytest_asyncio.fixture(params=BINARIES, ids=["embedded", "redis-6.2", "redis-7.0"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A server with the user of the page."""
    # A rule of the page as well, which only 7.0 does not know.
    info = [] if "redis-7.0" in str(request.param) else ["+client|setinfo"]
    user = ["crucible", "on", ">secret", *rules(), *info]
    async with EmbeddedServer(tmp_path, binary=request.param, durable=False) as server:
        async with Redis.from_url(server.url) as admin:
            await admin.execute_command("ACL", "SETUSER", *user)  # type: ignore[no-untyped-call]  # redis-py's
        yield server


def tasks() -> TaskRegistry:
    """Tasks that use what a server has to offer."""
    registry = TaskRegistry()

    @registry.task("add", track_started=True)
    async def add(ctx: Any, x: Any, y: int = 0) -> Any:
        if ctx.retries == 0 and x == -1:
            raise ctx.retry(countdown=0.1)
        await ctx.update_state("PROGRESS", {"done": 1})
        return sum(x) if isinstance(x, list) else x + y

    @registry.task("fail", max_retries=0, keep_failed=True)
    async def fail(ctx: Any) -> None:
        raise ctx.retry(countdown=0.01, exc=OSError("gone"))

    return registry


async def use_webhooks(client: aiohttp.ClientSession) -> None:
    """Register one, list, rotate, look at its deliveries, delete it."""
    path = "/api/v1/webhooks"
    async with client.post(path, json={"url": "https://receiver.example/"}) as response:
        assert response.status == 201
        one = f"{path}/{(await response.json())['id']}"
    for method, asked, status in (
        ("GET", path, 200),
        ("POST", f"{one}/rotate", 200),
        ("POST", f"{path}/default/rotate", 200),
        ("GET", f"{one}/deliveries", 200),
        ("DELETE", one, 204),
    ):
        async with client.request(method, asked) as response:
            assert response.status == status


async def write_history(bus_url: str, directory: Path) -> None:
    """A historian that writes what the bus has, and leaves."""
    url, stop = f"sqlite:///{directory}/history.sqlite", asyncio.Event()
    policy = BreakerPolicy()
    async with (
        migrated(url) as engine,
        open_historian(url, bus_url, Keys(), count=100, policy=policy) as historian,
        asyncio.timeout(60),
    ):
        working = asyncio.create_task(historian.run(stop))
        while not await rows_of(engine, evaluations):
            await asyncio.sleep(0.05)
        stop.set()
        await working


@pytest.mark.parametrize("claim", ["atomic", "brpop"])
async def test_the_rights_listed_are_enough(
    server: EmbeddedServer, claim: Literal["atomic", "brpop"], tmp_path: Path
) -> None:
    """Sending, delays, retries, chords, dead letters, control, operators, api, webhooks, history:
    nothing denied.
    """
    url = server.url.replace("redis://", "redis://crucible:secret@")
    scripting = claim == "atomic"
    worker = Worker(tasks(), broker_url=url, queues=["celery"], claim=claim, events=True)
    async with (
        Redis.from_url(server.url) as admin,
        Publisher.connect(url, scripting=scripting) as publisher,
        ControlClient.connect(url, scripting=scripting) as control,
        Admin.connect(url, scripting=scripting) as operator,
        worker,
    ):
        # At once, with a retry, and delayed.
        for x, countdown in ((1, None), (-1, None), (2, 0.2)):
            handle = await publisher.send_task("add", [x, 1], countdown=countdown)
            assert await handle.get(timeout=60) == x + 1
        failed = await publisher.send_task("fail")
        with pytest.raises(TaskFailed):
            await failed.get(timeout=60)
        [letter] = await operator.dead_letters.page(10)
        assert letter.task_id == failed.id
        await control.revoke(["nobody"])
        [listed] = await list_workers(url, scripting=scripting)
        assert (listed.kind, listed.queues) == ("async", ["celery"])
        await operator.census(["celery"])
        await operator.purge("batch")
        async with running_api(url, claim=claim) as client:
            body = {"code": "print(1)", "eval_id": "one"}
            async with client.post("/api/eval", json=body) as response:
                assert response.status == 202
            async with client.delete("/api/eval/one") as response:
                assert (await response.json())["status"] == "cancelled"
            async with client.get("/api/eval/one/events") as response:
                assert b"cancelled" in await response.read()
            async with client.get("/api/events") as response:
                # It has read the stream once its head is sent.
                assert response.status == 200
            async with client.get("/ready") as response:
                assert (await response.json())["dependencies"]["queue"]["ok"]
            async with client.get("/metrics") as response:
                assert response.status == 200
            await use_webhooks(client)
        await write_history(url, tmp_path)
        denied: Any = await admin.acl_log()
    assert [entry["object"] for entry in denied] == []


def test_every_command_of_the_scripts_is_listed() -> None:
    """Also those of paths that the test above does not take."""
    used = {
        name.lower()
        for script in SCRIPTS
        for name in re.findall(r"redis\.p?call\(\s*'([A-Za-z]+)'", script.read_text())
    }
    assert len(used) > 20
    assert used - {rule.removeprefix("+") for rule in rules()} == set()
