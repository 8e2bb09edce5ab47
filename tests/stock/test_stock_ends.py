"""Ends of evaluations that only the main process of a stock worker sees are reported as others."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from stock_rig.environments import PROJECT
from stock_rig.worker import StockWorker
from support.api_rig import running_api
from support.listening import executor_service
from support.migration_rig import submit, until
from support.patience import PATIENCE_S
from support.receiver import listening_receiver

from crucible.broker import Publisher
from crucible.broker.control.client import ControlClient
from crucible.broker.redis.connection import open_client
from crucible.embedded.server import EmbeddedServer
from crucible.evaluation.completion_store import read_completions
from crucible.events.position import START
from crucible.events.reader import EventReader
from crucible.models import Program
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp
    from redis.asyncio import Redis
    from support.receiver import Received

    from crucible.events.event import Event

pytestmark = [pytest.mark.stock, pytest.mark.asyncio(loop_scope="module")]
LOOPBACK = "127.0.0.0/8"


class Programs:
    """An executor service whose programs run until they are killed.

    Attributes:
        started: the code of every program so far.
        url: of the service.
    """

    def __init__(self) -> None:
        self.started: list[str] = []
        self.url = ""
        self._news = asyncio.Condition()

    async def run(self, request: web.Request) -> web.Response:
        """Run one."""
        program = msgspec.msgpack.decode(await request.read(), type=Program)
        async with self._news:
            self.started.append(program.code)
            self._news.notify_all()
        await asyncio.Event().wait()
        return web.Response()

    async def until_started(self, code: str) -> None:
        """Wait until a program runs."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: code in self.started)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Programs]:
        """Serve while the context is open."""
        async with executor_service(self.run) as self.url:
            yield self


class Rig:
    """An api with a webhook, and one stock worker with one child."""

    def __init__(
        self,
        url: str,
        redis: Redis,
        client: aiohttp.ClientSession,
        worker: StockWorker,
        programs: Programs,
        received: Received,
    ) -> None:
        self.url = url
        self.redis = redis
        self.client = client
        self.worker = worker
        self.programs = programs
        self.received = received

    async def running(self, eval_id: str) -> None:
        """Submit an evaluation, and wait until it runs."""
        await submit(self.client, eval_id, eval_id=eval_id)
        await self.programs.until_started(eval_id)

    async def revoke(self, eval_id: str) -> None:
        """Terminate a task as ``celery control revoke --terminate`` does; no api knows of it."""
        async with ControlClient.connect(self.url) as control:
            arguments = {"task_id": [f"eval-{eval_id}"], "terminate": True, "signal": "SIGTERM"}
            await control.tell("revoke", arguments)

    async def reported(self, eval_id: str) -> tuple[Event, dict[str, Any]]:
        """The event of an end and what was delivered of it, once there are both."""

        async def event() -> Event | None:
            page = await EventReader(self.redis, Keys()).page(START)
            found = [one.event for one in page.entries if one.event.eval_id == eval_id]
            return next((one for one in found if one.terminal), None)

        async def delivered() -> dict[str, Any] | None:
            bodies = [body["data"] for body in self.received.bodies()]
            return next((one for one in bodies if one["eval_id"] == eval_id), None)

        return await until(event), await until(delivered)

    async def counted(self, status: str) -> int:
        """Evaluations that were counted with a status."""
        found = await read_completions(self.redis, Keys())
        return found["celery"].statuses[status] if "celery" in found else 0

    async def in_flight(self, eval_id: str) -> bool:
        """Whether an evaluation counts among those that have not ended."""
        members: Any = await self.redis.zrange(Keys().in_flight("local"), 0, -1)
        return any(member.endswith(eval_id.encode()) for member in members)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """One for all tests of this file."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        directory = tmp_path_factory.mktemp("ends")
        url = f"redis://127.0.0.1:{(await enter(EmbeddedServer(directory, durable=False))).port}/0"
        programs, received = await enter(Programs().served()), await enter(listening_receiver())
        client = await enter(running_api(url, webhook_networks=(LOOPBACK,)))
        async with client.post("/api/v1/webhooks", json={"url": received.url}) as response:
            assert response.status == 201
        environment = {
            "CELERY_BROKER_URL": url,
            "CRUCIBLE_EVENT_BUS_URL": url,
            "CRUCIBLE_EXECUTOR_URLS": programs.url,
            "CRUCIBLE_WEBHOOK_NETWORKS": LOOPBACK,
        }
        worker = StockWorker(
            PROJECT, url, queues=("evaluation", "maintenance", "webhooks"), pool="prefork",
            app="crucible.celery_app", environment=environment,
        )  # fmt: skip
        await enter(worker)
        yield Rig(url, await enter(open_client(url)), client, worker, programs, received)


async def test_a_kill_that_the_api_did_not_wait_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The api has answered 202 before the worker reads what it was asked."""
    monkeypatch.setattr("crucible.evaluation.celery_service.STOP_WAIT_S", 0.05)
    await rig.running("late")
    before = await rig.counted("cancelled")
    rig.worker.send_signal(signal.SIGSTOP)
    try:
        async with rig.client.delete("/api/eval/late") as response:
            assert response.status == 202
    finally:
        rig.worker.send_signal(signal.SIGCONT)
    event, delivered = await rig.reported("late")
    assert (event.transition.value, event.verdict) == ("cancelled", "cancelled")
    assert (event.queue, event.worker) == ("evaluation", rig.worker.node)
    assert (delivered["status"], delivered["verdict"]) == ("cancelled", "cancelled")

    async def is_counted() -> bool:
        return await rig.counted("cancelled") == before + 1 and not await rig.in_flight("late")

    await until(is_counted)


async def test_what_an_operator_terminates(rig: Rig) -> None:
    """While it runs, and while it waits in a queue."""
    await rig.running("terminated")
    await submit(rig.client, "waiting", eval_id="waiting")
    await rig.revoke("waiting")
    await rig.revoke("terminated")
    for eval_id in ("terminated", "waiting"):
        event, delivered = await rig.reported(eval_id)
        assert (event.transition.value, delivered["status"]) == ("cancelled", "cancelled")
    assert "waiting" not in rig.programs.started


async def test_a_child_that_is_killed(rig: Rig) -> None:
    """By the kernel, which needs its memory: stock fails the evaluation in its main process."""
    await rig.running("killed")
    before = await rig.counted("failed")
    stored: Any = await rig.redis.get(Keys().result("eval-killed"))
    os.kill(msgspec.json.decode(stored)["result"]["pid"], signal.SIGKILL)
    event, delivered = await rig.reported("killed")
    assert (event.transition.value, event.verdict) == ("failed", "internal_error")
    assert event.message is not None
    assert "WorkerLostError" in event.message
    assert (delivered["status"], delivered["message"]) == ("failed", event.message)

    async def is_counted() -> bool:
        return await rig.counted("failed") == before + 1

    await until(is_counted)


async def test_a_hard_time_limit(rig: Rig) -> None:
    """Of a task that a Celery client sent: no record says where to report it."""
    async with Publisher.connect(rig.url) as publisher:
        own = f"{rig.received.url}/own"
        kwargs = {"eval_id": "limited", "code": "limited", "webhook_url": own}
        await publisher.send_task(
            "tasks.evaluate_code", kwargs=kwargs, task_id="eval-limited", queue="evaluation",
            time_limit=1.0,
        )  # fmt: skip
        event, delivered = await rig.reported("limited")
        assert (event.transition.value, delivered["status"]) == ("failed", "failed")
        assert event.message is not None
        assert event.message.startswith("TimeLimitExceeded")

        async def both() -> bool:
            found = {
                headers["x-path"]
                for headers, body in rig.received.requests
                if msgspec.json.decode(body)["data"]["eval_id"] == "limited"
            }
            return found == {"/hook", "/hook/own"}

        await until(both)


async def test_each_end_is_delivered_once(rig: Rig) -> None:
    """By the api that cancelled it, and by the worker that finds its message later."""
    await rig.running("first")
    await submit(rig.client, "second", eval_id="second")
    for eval_id in ("second", "first"):
        async with rig.client.delete(f"/api/eval/{eval_id}") as response:
            assert response.status in (200, 202)
    # Once the child has nothing else to do.
    for eval_id in ("first", "second"):
        await rig.reported(eval_id)

    async def is_idle() -> bool:
        # What is not in a list of its own any more is claimed until it is done.
        lists = [await rig.redis.llen(name) for name in ("evaluation", "maintenance", "webhooks")]
        return not any(lists) and not await rig.redis.hlen(Keys().unacked)

    await until(is_idle)
    sent = [
        (body["data"]["eval_id"], headers["x-path"])
        for (headers, _), body in zip(rig.received.requests, rig.received.bodies(), strict=True)
    ]
    assert len(sent) == len(set(sent))
    assert {("first", "/hook"), ("second", "/hook")} <= set(sent)
