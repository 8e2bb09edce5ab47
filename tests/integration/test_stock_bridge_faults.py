"""Tasks in stock workers that cannot be reached, or cannot reach the queue server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, signals
from celery.app.trace import build_tracer
from celery.exceptions import QueueNotFound

from crucible.broker.control.client import ControlClient
from crucible.embedded.server import free_port
from crucible.stock.bridge import Bridge
from crucible.worker import TaskRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

# Stock calls it; nothing of ours does.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


class Rig:
    """A stock application with a task that says what its state is while it runs.

    Args:
        url: of the result server.
        broker: of the queue server, where it is another.
    """

    def __init__(self, url: str, broker: str = "") -> None:
        self.seen: list[str] = []
        registry = TaskRegistry()

        @registry.task("t.tracked", track_started=True)
        def tracked(ctx: Any) -> int:
            self.seen.append(self.state(ctx.id))
            return 42

        @registry.task("t.again")
        def again(ctx: Any) -> None:
            raise ctx.retry(countdown=0)

        self.app = Celery("rig", broker=broker or url, backend=url, set_as_current=False)
        self.bridge = Bridge(self.app, registry)

    def state(self, task_id: str) -> str:
        """The stored state."""
        return str(self.app.AsyncResult(task_id).state)

    def run(self, task_id: str, name: str = "t.tracked", **request: Any) -> Any:
        """What a process of a stock worker does with a message; how the task ended."""
        task = self.app.tasks[name]
        trace = build_tracer(name, task, app=self.app)
        request = {"id": task_id, "delivery_info": {}, "hostname": "s@h", **request}
        _, ended, *_ = trace(task_id, (), {}, request)
        return ended


@pytest.fixture
def rig(redis_url: str) -> Iterator[Rig]:
    made = Rig(redis_url)
    yield made
    made.bridge.close()
    made.app.close()


@pytest.mark.parametrize("final", [True, False])
async def test_a_revoked_task_does_not_run_and_stays_revoked(
    redis_url: str, rig: Rig, *, final: bool
) -> None:
    """The broadcast was missed: the worker has the message, and was not connected."""
    async with ControlClient.connect(redis_url) as control:
        await control.revoke(["one"], terminate=True, final=final)
    found = []

    def revoked(request: Any, **_: Any) -> None:
        found.append(request.id)

    signals.task_revoked.connect(revoked)
    await asyncio.to_thread(rig.run, "one")
    signals.task_revoked.disconnect(revoked)
    assert (rig.seen, await asyncio.to_thread(rig.state, "one")) == ([], "REVOKED")
    # As of any other revoked message, so that its end is reported.
    assert found == ["one"]


async def test_others_are_started_as_by_stock(rig: Rig) -> None:
    """While it runs its state is STARTED, unless its result is ignored."""
    await asyncio.to_thread(rig.run, "two")
    await asyncio.to_thread(rig.run, "three", ignore_result=True)
    assert rig.seen == ["STARTED", "PENDING"]
    assert await asyncio.to_thread(rig.state, "two") == "SUCCESS"


async def test_a_next_try_that_the_server_does_not_take_leaves_this_one_queued(
    redis_url: str,
) -> None:
    """Stock drops it."""
    rig = Rig(redis_url, f"redis://127.0.0.1:{free_port()}/0")
    rig.app.conf.task_publish_retry = False
    try:
        ended = await asyncio.to_thread(rig.run, "one", "t.again")
    finally:
        rig.bridge.close()
        rig.app.close()
    assert (ended.state, ended.retval.requeue) == ("REJECTED", True)


@pytest.mark.parametrize(
    ("error", "requeue"),
    [
        # What kombu raises on a channel that was closed under it; no server does so on demand.
        (AttributeError("'NoneType' object has no attribute 'client'"), True),
        (QueueNotFound("nowhere"), False),
    ],
)
async def test_only_what_can_never_be_sent_is_dropped(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: Exception, *, requeue: bool
) -> None:
    """It would come back for ever."""

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("celery.canvas.Signature.apply_async", refuse)
    ended = await asyncio.to_thread(rig.run, "one", "t.again")
    assert (ended.state, ended.retval.requeue) == ("REJECTED", requeue)
