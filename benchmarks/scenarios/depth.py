"""Does a long queue slow things down? Publishing onto it and working on it, at several depths.

Each depth has a server of its own, filled once with a submission record for each message as the
api writes it; a large server is slower than a small one whichever of its queues is used. Each
measurement pushes some more on top and lets one worker process take as many. So "1k" is a queue
between one thousand and one thousand and that many.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from benchmarks.append_only import rewritten
from benchmarks.driven import Driven
from benchmarks.machine import cpu_s
from benchmarks.rate import steady
from benchmarks.scenario import Bench, Scenario, Stage, Subject
from benchmarks.subjects.depth_mover import LIST
from crucible.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Messages pushed and taken in one measurement, for each second of its length.
MOVED_PER_S = 10_000
LONGEST_S = 60.0
#: Share of its depth a queue is filled further by while its server's tables grow, and how often.
MORE, MOST_MORE = 0.005, 40
#: Seconds that filling the deepest queue may take, beyond the usual patience.
FILL_S = 240.0


def _subject(depth: int) -> Subject:
    job = {"tasks": "noop_eval:registry", "queue": "evaluation", "list": LIST, "depth": depth}
    return Subject("crucible_worker", job=job)


DEPTHS = {"1k": 1_000, "10k": 10_000, "100k": 100_000, "1M": 1_000_000}


@dataclass(frozen=True, slots=True)
class _Filled:
    """One depth's server, its mover, and what a message costs beyond its own bytes."""

    server: EmbeddedServer
    redis: Redis
    mover: Driven
    overhead_bytes: float


@asynccontextmanager
async def _stage(bench: Bench, scenario: Scenario) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        yield Stage(bench, scenario.name, scenario.subjects, more={"stack": stack, "filled": {}})


async def _fill(stage: Stage, label: str) -> _Filled:
    """Start a depth's server and fill it; it runs until the scenario ends."""
    stack: AsyncExitStack = stage.more["stack"]
    directory = stage.bench.directory / stage.scenario / label
    server = await stack.enter_async_context(EmbeddedServer(directory))
    redis = await stack.enter_async_context(Redis.from_url(server.url))
    mover = await stack.enter_async_context(Driven("depth_mover", job={"redis": server.url}))
    count = stage.bench.count(DEPTHS[label], least=500)
    before = (await redis.info("memory"))["used_memory"]
    filled = await mover.run(count=count, seconds=FILL_S)
    used = (await redis.info("memory"))["used_memory"] - before
    await _grow(stage, DEPTHS[label], redis, mover)
    return _Filled(server, redis, mover, (used - filled["bytes"]) / count)


async def _grow(stage: Stage, depth: int, redis: Redis, mover: Driven) -> None:
    """Let the server's tables come to rest.

    They double now and then, and while they move to twice the room everything costs a third more:
    once in a million messages for some 20 000 of them, which must not be the ones measured.
    """
    for _ in range(MOST_MORE):
        # Servers that do not tell are taken to be at rest.
        if not (await redis.info("memory")).get("mem_overhead_db_hashtable_rehashing"):
            return
        await mover.run(count=stage.bench.count(int(MORE * depth), least=50))


async def measure(stage: Stage, label: str) -> None:
    """Push onto the queue and work it down to what it was."""
    filled: dict[str, _Filled] = stage.more["filled"]
    if label not in filled:
        filled[label] = await _fill(stage, label)
        # Not recorded: the first one still pays for the filling, most of all a large server.
        await _round(stage, label)
    for metric, value in (await _round(stage, label)).items():
        stage.record(label, metric, value)


async def _round(stage: Stage, label: str) -> dict[str, float]:
    filled: dict[str, _Filled] = stage.more["filled"]
    here = filled[label]
    await _settle(filled)
    depth = await _length(here.redis)
    count = stage.bench.count(int(MOVED_PER_S * stage.bench.seconds), least=500)
    began_s = cpu_s(here.server.pid)
    pushed = await here.mover.run(count=count)
    pushing_s = cpu_s(here.server.pid) - began_s
    async with stage.driven(label, job={"redis": here.server.url}) as worker:
        began_s = cpu_s(here.server.pid)
        answer = await worker.run(leave=depth, seconds=LONGEST_S)
        working_s = cpu_s(here.server.pid) - began_s
    # Until it was stopped the worker took what the next repeat needs.
    await here.mover.run(count=max(0, depth - await _length(here.redis)))
    return {
        "submissions_per_s": count / pushed["elapsed_s"],
        "submission_server_us": pushing_s / count * 1e6,
        "tasks_per_s": steady(answer["looks"], count).per_s,
        "task_server_us": working_s / count * 1e6,
        "queued_count": depth,
        "overhead_bytes": here.overhead_bytes,
    }


async def _settle(filled: dict[str, _Filled]) -> None:
    """Wait until no server rewrites its file and what was written is on the disk."""
    for each in filled.values():
        await rewritten(each.redis)
    await asyncio.to_thread(os.sync)


async def _length(redis: Redis) -> int:
    # redis-py's own annotation is of both its clients at once.
    return int(await redis.execute_command("LLEN", LIST))  # type: ignore[no-untyped-call]


SCENARIO = Scenario(
    name="depth",
    summary="publishing and working at several depths",
    subjects={label: _subject(depth) for label, depth in DEPTHS.items()},
    open=_stage,
    measure=measure,
    seconds=3.0,
    # Both depths are nearly alike, and a machine's own ups and downs are larger than what is asked.
    rounds=3,
)
