"""Does a long queue slow things down? Publishing onto it and working on it, at several depths.

Each depth has its own server, filled once with messages and their idempotency records as the api
writes them; a large server is slower than a small one whichever of its queues is used. Each
measurement pushes more messages and lets one worker process take as many, so that "1k" is a queue
of one thousand plus up to that number.
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

#: Messages pushed and taken in one measurement, per second of its length.
MOVED_PER_S = 10_000
LONGEST_S = 60.0
#: Share of its depth by which a queue is filled further while its server rehashes, and how often.
MORE, MOST_MORE = 0.005, 40
#: Seconds that filling the deepest queue may take, on top of the usual deadline.
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
    """Fill the queue further until the server's hash tables are not being resized.

    While a table is rehashed into one of twice the size everything costs a third more: once in a
    million messages, for some 20 000 of them, which must not be the ones measured.
    """
    for _ in range(MOST_MORE):
        # Servers that do not report it count as at rest.
        if not (await redis.info("memory")).get("mem_overhead_db_hashtable_rehashing"):
            return
        await mover.run(count=stage.bench.count(int(MORE * depth), least=50))


async def measure(stage: Stage, label: str) -> None:
    """Push onto the queue and work it off to its previous length."""
    filled: dict[str, _Filled] = stage.more["filled"]
    if label not in filled:
        filled[label] = await _fill(stage, label)
        # Not recorded: the first one is slowed by the filling, most of all on a large server.
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
    # Until it was stopped, the worker also took messages that the next repeat needs.
    await here.mover.run(count=max(0, depth - await _length(here.redis)))
    return {
        "submissions_per_s": count / pushed["elapsed_s"],
        "submission_server_us": pushing_s / count * 1e6,
        "tasks_per_s": steady(answer["samples"], count).per_s,
        "task_server_us": working_s / count * 1e6,
        "queued_count": depth,
        "overhead_bytes": here.overhead_bytes,
    }


async def _settle(filled: dict[str, _Filled]) -> None:
    """Wait until no server rewrites its file, and everything is synced to disk."""
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
    # The depths hardly differ, and the machine's fluctuations are larger than the target's margin.
    rounds=3,
    turn_s=4.2,
)
