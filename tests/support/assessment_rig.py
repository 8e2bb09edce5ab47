"""Assessments without containers, for tests: programs say themselves how they end."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from crucible.assessments.tasks import build_registry as assessment_tasks
from crucible.broker.wire.priority import STEPS
from crucible.redis_keys import Keys
from crucible.settings import KNOWN_QUEUES, load_settings
from crucible.worker import TaskRegistry
from crucible.worker.worker import Worker
from crucible.workflows.tasks import build_registry as workflow_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp
    from redis.asyncio import Redis

    from crucible.worker import TaskContext

WAIT_S = 60.0
QUEUES = ("high_priority", "evaluation", "batch", "assessments", "reports")


class Programs:
    """Evaluates programs that are JSON objects of what comes of them, and counts them.

    ``{"verdict": "timeout"}`` ends so; ``{"hold": true}`` waits until ``released``;
    ``{"by_turn": ["ok", "signalled"]}`` ends differently at each repetition; ``{"say": "x"}``
    prints it, and what it reads behind ``<``; ``{"show": true}`` prints all it was given.
    """

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.released = asyncio.Event()
        self.registry = TaskRegistry()
        self.registry.task("tasks.evaluate_code", track_started=True)(self._evaluate)

    async def _evaluate(
        self, ctx: TaskContext, eval_id: str, code: str, language: str = "python", **given: Any
    ) -> dict[str, Any]:
        asked = json.loads(code)
        self.ran.append(eval_id)
        if asked.get("hold"):
            await self.released.wait()
        verdict = asked.get("verdict", "ok")
        if turns := asked.get("by_turn"):
            verdict = turns[int(eval_id.rpartition("-")[2]) % len(turns)]
        own = verdict in ("ok", "nonzero_exit", "signalled")
        usage = {"wall_time_ms": asked.get("ms", 5), "memory_peak_kb": asked.get("kb", 9000)}
        return {
            "eval_id": eval_id,
            "status": "completed" if own else "failed",
            "verdict": verdict,
            "usage": usage,
            "error": asked.get("error", ""),
            "output": _output(asked, given),
            "exit_code": 0 if verdict == "ok" else 3 if own else None,
        }


def _output(asked: dict[str, Any], given: dict[str, Any]) -> str:
    if asked.get("show"):
        return json.dumps(given)
    stdin = given.get("stdin", "")
    return str(asked.get("say", "")) + (f"<{stdin}" if stdin else "")


def case(verdict: str = "ok", **more: Any) -> dict[str, Any]:
    """A case of a suite whose program ends with ``verdict``."""
    own = {
        name: more.pop(name)
        for name in ("by_turn", "hold", "ms", "kb", "error", "say", "show")
        if name in more
    }
    return {"code": json.dumps({"verdict": verdict, **own}), **more}


@asynccontextmanager
async def serving(
    url: str, programs: Programs, *, concurrency: int = 8, **flags: Any
) -> AsyncIterator[Worker]:
    """A worker in this process that runs assessments, workflows and such programs."""
    settings = load_settings(
        {}, flags={"celery_broker_url": url, "event_bus_url": "off", "history_url": "off", **flags}
    )
    registry = TaskRegistry()
    registry.include(programs.registry)
    registry.include(assessment_tasks(settings))
    registry.include(workflow_tasks(settings))
    async with Worker(
        registry, broker_url=url, queues=QUEUES, concurrency=concurrency, default_queue="evaluation"
    ) as worker:
        yield worker


async def ask(
    client: aiohttp.ClientSession, method: str, path: str, body: Any = None
) -> tuple[int, Any]:
    """One request; its status and what it answers."""
    async with client.request(method, path, json=body) as response:
        if response.content_type.endswith("json"):
            return response.status, await response.json()
        return response.status, await response.text()


async def waiting(redis: Redis) -> int:
    """Messages in all queues."""
    keys = [Keys().step_list(queue, step) for queue in KNOWN_QUEUES for step in STEPS]
    return sum([int(await redis.llen(key)) for key in keys])


async def started(client: aiohttp.ClientSession, **suite: Any) -> str:
    """The path of an assessment that was made and started."""
    status, made = await ask(client, "POST", "/api/v1/assessments", {"name": "suite", **suite})
    assert status == 201, made
    status, answer = await ask(client, "POST", f"{made['href']}/start")
    assert status == 202, answer
    return str(made["href"])


async def until(client: aiohttp.ClientSession, href: str, *statuses: str) -> dict[str, Any]:
    """An assessment, or a workflow, once its status is one of these."""
    wanted = statuses or ("completed", "failed", "cancelled")
    async with asyncio.timeout(WAIT_S):
        while True:
            status, found = await ask(client, "GET", href)
            assert status == 200, found
            if found["status"] in wanted:
                return dict(found)
            await asyncio.sleep(0.02)
