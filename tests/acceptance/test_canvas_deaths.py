"""SIGKILL of real workers in the middle of chains and chords: what follows comes, and once."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stock_rig.monitor import Monitor
from stock_rig.reading import messages
from support.patience import PATIENCE_S
from support.worker_rig import async_worker

from crucible.broker.canvas.signature import Signature, chain, chord, signature
from crucible.broker.publishing.publisher import Publisher
from crucible.errors import TaskFailed

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from stock_rig.child import Child

pytestmark = pytest.mark.timeout(400)

TESTS = str(Path(__file__).resolve().parent.parent)
INSTANTS = ("counted", "planned", "settled")


def worker(url: str, queues: str, *, dies_at: str = "", concurrency: int = 1) -> Child:
    return async_worker(
        url,
        *(
            "--tasks",
            "support.canvas_deaths:registry" if dies_at else "support.canvas_tasks:registry",
        ),
        *("--queues", queues, "--concurrency", str(concurrency)),
        PYTHONPATH=TESTS,
        CANVAS_DIES_AT=dies_at,
    )


def pushes(monitor: Monitor) -> Counter[str]:
    """How often a message of each task was pushed as a new one, by task id."""
    pushed = [command.words for command in monitor.commands if command.words[0] == "LPUSH"]
    return Counter(json.loads(raw)["headers"]["id"] for _, raw in messages(pushed))


def works(queue: str) -> dict[str, tuple[Signature, Any]]:
    """Canvases whose first tasks run on ``queue``, and what they come to."""

    def here(name: str, *args: Any) -> Signature:
        return signature(f"rig.{name}", args, queue=queue)

    parts = [here("add", 1, 1), here("add", 2, 2)]
    body = signature("rig.xsum", task_id=f"{queue}-body")
    return {
        "chord": (chord(parts, body), 6),
        "failing chord": (chord([here("add", 1, 1), here("fail")], body), None),
        "chain": (chain(here("add", 1, 1), signature("rig.add", (2,), task_id=f"{queue}-next")), 4),
        "replaced": (chain(here("replaced", 1, 1), signature("rig.add", (2,))), 4),
    }


async def test_no_instant_loses_what_follows(redis_url: str, redis: Redis) -> None:
    """A worker dies at each instant of each kind of canvas; another one ends them all, once."""
    kinds = works("")
    cases = [
        (instant, kind)
        for instant in INSTANTS
        for kind in kinds
        if instant != "counted" or "chord" in kind
    ]
    async with Monitor(redis_url) as monitor, Publisher.connect(redis_url) as publisher:
        handles = {}
        for number, (instant, kind) in enumerate(cases):
            queue = f"case{number}"
            work, expected = works(queue)[kind]
            handles[instant, kind] = (await publisher.send_canvas(work), expected)
            async with worker(redis_url, queue, dies_at=instant) as dying:
                assert await dying.wait(PATIENCE_S) == -signal.SIGKILL
        queues = ",".join(["celery", *(f"case{number}" for number in range(len(cases)))])
        async with worker(redis_url, queues, concurrency=4):
            for case, (handle, expected) in handles.items():
                if expected is None:
                    with pytest.raises(TaskFailed, match="bang"):
                        await handle.get(PATIENCE_S)
                else:
                    assert await handle.get(PATIENCE_S) == expected, case
        await monitor.settle()
        counts = pushes(monitor)
    assert {task_id: count for task_id, count in counts.items() if count > 1} == {
        # The task that takes another's place has its id.
        handle.parent.id: 2
        for (_, kind), (handle, _) in handles.items()
        if kind == "replaced" and handle.parent is not None
    }
    assert not await redis.hlen("unacked")
    assert not [key async for key in redis.scan_iter("celery-taskset-meta-*.s")]


async def test_chords_through_a_storm_of_kills(redis_url: str, redis: Redis) -> None:
    """Workers die at random among eighty chords: every body runs, with each part, and once."""
    chosen = random.Random(5)
    count, size = 80, 6
    async with AsyncExitStack() as stack:
        monitor = await stack.enter_async_context(Monitor(redis_url))
        publisher = await stack.enter_async_context(Publisher.connect(redis_url))
        fleet = [
            await stack.enter_async_context(worker(redis_url, "celery", concurrency=4))
            for _ in range(3)
        ]
        handles = []
        for number in range(count):
            header = [signature("rig.sleep", (0.1, number + part)) for part in range(size)]
            handles.append(await publisher.send_canvas(chord(header, signature("rig.echo"))))
        async with asyncio.timeout(PATIENCE_S):
            while await redis.hlen("unacked") < 4:
                await asyncio.sleep(0.02)
        for _ in range(6):
            await asyncio.sleep(chosen.uniform(0.1, 0.5))
            # The oldest: the others may not have begun.
            await fleet.pop(0).kill()
            fleet.append(
                await stack.enter_async_context(worker(redis_url, "celery", concurrency=4))
            )
        for number, handle in enumerate(handles):
            value = await handle.get(PATIENCE_S)
            assert value == {"args": [[number + part for part in range(size)]], "kwargs": {}}
        await monitor.settle()
        counts = pushes(monitor)
        restored = [command for command in monitor.commands if command.words[0] == "RPUSH"]
    assert restored, "no kill hit a worker that held anything"
    assert len(counts) == count * (size + 1)
    assert set(counts.values()) == {1}
    assert not [key async for key in redis.scan_iter("celery-taskset-meta-*.s")]
