"""The queue of tasks that need a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.api_rig import running_api

from crucible.broker import Publisher
from crucible.worker import TaskContext, TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    import aiohttp


async def gpu_queue(client: aiohttp.ClientSession) -> dict[str, Any]:
    async with client.get("/api/v1/queues") as response:
        queues = (await response.json())["queues"]
    assert all(one["why"] is None for one in queues if one["name"] != "gpu_queue")
    return next(dict(one) for one in queues if one["name"] == "gpu_queue")


async def test_it_says_why_it_waits(redis_url: str) -> None:
    """As long as no worker with GPUs is there; others do not count."""
    registry = TaskRegistry(gauges=lambda: {"gpus": 1})

    @registry.task("t.one")
    async def one(ctx: TaskContext) -> int:
        return 1

    async with running_api(redis_url) as client, Publisher.connect(redis_url) as publisher:
        assert await gpu_queue(client) == {
            "name": "gpu_queue", "waiting": 0, "by_step": {"0": 0, "3": 0, "6": 0, "9": 0},
            "why": None,
        }  # fmt: skip
        sent = await publisher.send_task("t.one", queue="gpu_queue")
        async with Worker(TaskRegistry(), broker_url=redis_url, queues=("evaluation",)):
            found = await gpu_queue(client)
            assert found["waiting"] == 1
            assert "--gpus" in found["why"]
        async with Worker(registry, broker_url=redis_url, queues=("evaluation",)):
            # It does not serve the queue, which is then for its operator to say.
            assert (await gpu_queue(client))["why"] is None
        async with Worker(registry, broker_url=redis_url, queues=("gpu_queue",)):
            assert await sent.get(timeout=30) == 1
