"""What ``crucible worker`` serves, and what it says when it starts and stops."""

from __future__ import annotations

import signal

from support.worker_rig import START_S, async_worker

from crucible.broker import Publisher

TASKS = ("--tasks", "support.worker_tasks:registry", "--name", "w1@here")


async def test_other_tasks_are_served_from_celery_s_default_queue(redis_url: str) -> None:
    """As in the README: what is sent to ``celery`` is run, and the start says what is served."""
    worker = async_worker(redis_url, *TASKS, PYTHONPATH="tests")
    async with worker, Publisher.connect(redis_url) as publisher:
        assert await (await publisher.send_task("rig.add", [1, 2], queue="celery")).get(30) == 3
        await worker.wait_for_log(r"w1@here serves the queues celery: 5 tasks, concurrency 100$")
        await worker.wait_for_log(r"w1@here is ready$")


async def test_queues_that_were_named_are_served(redis_url: str) -> None:
    """The evaluation queues can be named too, although they are the default of evaluations."""
    queues = "high_priority,evaluation,batch,maintenance,webhooks"
    worker = async_worker(redis_url, *TASKS, PYTHONPATH="tests", CRUCIBLE_QUEUES=queues)
    async with worker, Publisher.connect(redis_url) as publisher:
        result = await publisher.send_task("rig.add", [1, 2], queue="evaluation")
        assert await result.get(30) == 3


async def test_a_misspelt_queue_is_pointed_out(redis_url: str) -> None:
    """A queue that nothing of Crucible sends to is served, with a warning at the start."""
    async with async_worker(redis_url, "--queues", "evaluaton") as worker:
        await worker.wait_for_log(
            r"WARNING .* the queue 'evaluaton'; did you mean 'evaluation'\?", START_S
        )
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait(START_S) == 0
