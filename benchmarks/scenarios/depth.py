"""Does a long queue slow things down? Publishing onto it and working on it, at several depths.

Queues are filled once, with a submission record for each message as the api writes it, and set
aside; each measurement swaps one in, pushes some more on top, and lets one worker process take as
many. So "1k" is a queue between one thousand and one thousand and that many.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from benchmarks.append_only import rewritten
from benchmarks.driven import Driven
from benchmarks.rate import steady
from benchmarks.scenario import Bench, Scenario, Stage, Subject, redis_stage
from benchmarks.subjects.depth_mover import LIST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Messages pushed and taken in one measurement, for each second of its length.
MOVED_PER_S = 10_000
LONGEST_S = 60.0


def _subject(depth: int) -> Subject:
    job = {"tasks": "noop_eval:registry", "queue": "evaluation", "list": LIST, "depth": depth}
    return Subject("crucible_worker", job=job)


DEPTHS = {"1k": 1_000, "10k": 10_000, "100k": 100_000, "1M": 1_000_000}


@asynccontextmanager
async def _stage(bench: Bench, scenario: Scenario) -> AsyncIterator[Stage]:
    async with (
        redis_stage(bench, scenario) as stage,
        Redis.from_url(stage.redis) as redis,
        Driven("depth_mover", job={"redis": stage.redis}) as mover,
    ):
        stage.more.update(redis=redis, mover=mover, overhead={})
        yield stage


async def _fill(stage: Stage, label: str) -> None:
    """Fill one depth and set it aside; what a message costs beyond its own bytes is kept."""
    redis, mover = stage.more["redis"], stage.more["mover"]
    count = stage.bench.count(DEPTHS[label], least=500)
    before = (await redis.info("memory"))["used_memory"]
    filled = await mover.run(count=count)
    used = (await redis.info("memory"))["used_memory"] - before
    stage.more["overhead"][label] = (used - filled["bytes"]) / count
    await redis.rename(LIST, _aside(label))


def _aside(label: str) -> str:
    return f"aside:{label}"


async def measure(stage: Stage, label: str) -> None:
    """Swap the queue in, push onto it, work it down to what it was, set it aside again."""
    redis: Redis = stage.more["redis"]
    mover: Driven = stage.more["mover"]
    if label not in stage.more["overhead"]:
        await _fill(stage, label)
    await rewritten(redis)
    await redis.rename(_aside(label), LIST)
    depth = await _length(redis)
    count = stage.bench.count(int(MOVED_PER_S * stage.bench.seconds), least=500)
    pushed = await mover.run(count=count)
    async with stage.driven(label) as worker:
        answer = await worker.run(leave=depth, seconds=LONGEST_S)
    # Until it was stopped the worker took what the next repeat needs.
    await mover.run(count=max(0, depth - await _length(redis)))
    await redis.rename(LIST, _aside(label))
    stage.record(label, "submissions_per_s", count / pushed["elapsed_s"])
    stage.record(label, "tasks_per_s", steady(answer["looks"], count).per_s)
    stage.record(label, "queued_count", depth)
    stage.record(label, "overhead_bytes", stage.more["overhead"][label])


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
)
