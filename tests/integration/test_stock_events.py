"""A stock worker writes the same events as an async one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from aiohttp import web
from stock_rig.environments import PROJECT
from stock_rig.worker import StockWorker
from support.api_rig import running_api
from support.listening import executor_service
from support.migration_rig import completed, submit

from crucible.broker.redis.connection import open_client
from crucible.events.position import START
from crucible.events.reader import EventReader
from crucible.models import Outcome, Program, Verdict
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from crucible.events.event import Event


async def run(request: web.Request) -> web.Response:
    """An executor service that runs nothing, and refuses what says so."""
    program = msgspec.msgpack.decode(await request.read(), type=Program)
    if program.code == "refuse":
        return web.json_response({"detail": "no"}, status=422)
    body = msgspec.msgpack.encode(Outcome(verdict=Verdict.OK, exit_code=0, stdout=b"12"))
    return web.Response(body=body, content_type="application/msgpack")


@pytest.mark.stock
async def test_a_stock_worker_writes_the_same_events(redis_url: str) -> None:
    """From its children, by the end of the worker at the latest."""
    async with executor_service(run) as url:
        environment = {
            "CELERY_BROKER_URL": redis_url,
            "CRUCIBLE_EVENT_BUS_URL": redis_url,
            "CRUCIBLE_EXECUTOR_URLS": url,
        }
        worker = StockWorker(
            PROJECT, redis_url, queues=("evaluation",), pool="prefork", concurrency=2,
            app="crucible.celery_app", environment=environment,
        )  # fmt: skip
        async with running_api(redis_url) as client:
            async with worker:
                fine = (await submit(client, "print(12)"))["eval_id"]
                refused = (await submit(client, "refuse"))["eval_id"]
                for eval_id in (fine, refused):
                    await completed(client, eval_id)
                assert await worker.stop() == 0
    async with open_client(redis_url) as bus:
        page = await EventReader(bus, Keys()).page(START)
    events = sorted((entry.event for entry in page.entries), key=lambda event: event.seq)

    def of(eval_id: str) -> list[Event]:
        return [event for event in events if event.eval_id == eval_id]

    assert [event.transition.value for event in of(fine)] == ["queued", "running", "completed"]
    assert [event.transition.value for event in of(refused)] == ["queued", "running", "failed"]
    ended = of(fine)[-1]
    assert (ended.verdict, ended.output_bytes, ended.queue) == ("ok", 2, "evaluation")
    assert ended.worker == of(fine)[1].worker is not None
