"""How runs end that are stopped, or that raise what would end more than themselves."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.fleet_rig import final_state, send, stored, until

from crucible.worker.execution import cancellation as stopping
from crucible.worker.registry import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from crucible.worker.context import TaskContext

registry = TaskRegistry()
#: What plain functions wait for; set by ``serving`` at its end.
release = threading.Event()
#: Ends the children of tasks that never react.
gates: dict[str, asyncio.Event] = {}
#: Threads that are in ``s.blocked``.
inside: list[str] = []


class Odd(BaseException):
    """No ``Exception``."""


RAISED = {
    "exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "generator": GeneratorExit(),
    "stop": StopIteration(7), "odd": Odd("base"),
}  # fmt: skip


@registry.task("s.blocked")
def blocked(ctx: TaskContext) -> str:
    inside.append(ctx.id)
    release.wait(60)
    return "released"


@registry.task("s.quick")
async def quick(ctx: TaskContext) -> str:
    return "quick"


@registry.task("s.plain")
def plain(ctx: TaskContext) -> str:
    return "plain"


@registry.task("s.swallow")
async def swallow(ctx: TaskContext) -> str:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "swallowed"
    return "slept"


@registry.task("s.stubborn")
async def stubborn(ctx: TaskContext) -> None:
    gate = gates["stubborn"]
    while not gate.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await gate.wait()


@registry.task("s.stubborn_child")
async def stubborn_child(ctx: TaskContext) -> None:
    await asyncio.create_task(stubborn(ctx))


@registry.task("s.awaits_cancelled")
async def awaits_cancelled(ctx: TaskContext) -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


@registry.task("s.cancels_itself")
async def cancels_itself(ctx: TaskContext, waits: bool) -> str:
    current = asyncio.current_task()
    assert current is not None
    current.cancel()
    if waits:
        await asyncio.sleep(0)
    return "not stopped by it"


@registry.task("s.raises")
async def raises(ctx: TaskContext, what: str) -> None:
    raise RAISED[what]


@registry.task("s.raises_in_thread")
def raises_in_thread(ctx: TaskContext, what: str) -> None:
    raise RAISED[what]


@asynccontextmanager
async def serving(redis_url: str, concurrency: int = 1, **options: Any) -> AsyncIterator[Worker]:
    """A worker; functions that are blocked are released when it goes."""
    release.clear()
    inside.clear()
    gates["stubborn"] = asyncio.Event()
    try:
        async with Worker(
            registry, broker_url=redis_url, concurrency=concurrency, name="w@test", **options
        ) as worker:
            yield worker
            gates["stubborn"].set()
    finally:
        release.set()


@pytest.mark.parametrize(
    ("limits", "exc_type"),
    [
        ({"soft_time_limit": 0.1}, "SoftTimeLimitExceeded"),
        ({"time_limit": 0.1}, "TimeLimitExceeded"),
    ],
)
async def test_limits_end_plain_functions(
    redis_url: str, redis: Redis, limits: dict[str, Any], exc_type: str
) -> None:
    """A plain function over a limit fails and frees its slot and its claim; its thread goes on."""
    async with serving(redis_url) as worker:
        await send(redis, "s.blocked", task_id="over", **limits)
        meta = await final_state(redis, "over")
        assert (meta["status"], meta["result"]["exc_type"]) == ("FAILURE", exc_type)
        await send(redis, "s.plain", task_id="next")
        assert (await final_state(redis, "next"))["result"] == "plain"
        await until(lambda: not list(worker.unsettled))
        assert not await redis.hlen("unacked")


async def test_a_swallowed_cancellation_is_no_way_around_the_limit(
    redis_url: str, redis: Redis
) -> None:
    """It fails for its limit, and the next in its slot meets no cancellation of another's."""
    async with serving(redis_url) as worker:
        await send(redis, "s.swallow", task_id="swallowed", time_limit=0.1)
        meta = await final_state(redis, "swallowed")
        assert meta["result"]["exc_type"] == "TimeLimitExceeded"
        assert meta["result"]["exc_message"] == [0.1]
        await send(redis, "s.awaits_cancelled", task_id="next")
        assert (await final_state(redis, "next"))["result"]["exc_type"] == "CancelledError"
        await send(redis, "s.quick", task_id="last")
        assert (await final_state(redis, "last"))["result"] == "quick"
        await until(lambda: not list(worker.unsettled))


@pytest.mark.parametrize("name", ["s.stubborn", "s.stubborn_child"])
async def test_who_never_reacts_is_let_go_of(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A task that swallows every cancellation fails all the same, and its slot serves on."""
    monkeypatch.setattr(stopping, "_PATIENCE_S", 0.02)
    async with serving(redis_url) as worker:
        await send(redis, name, task_id="hard", time_limit=0.05)
        assert (await final_state(redis, "hard"))["result"]["exc_type"] == "TimeLimitExceeded"
        await send(redis, name, task_id="doomed")
        await until(lambda: worker.terminate("doomed"))
        assert (await final_state(redis, "doomed"))["status"] == "REVOKED"
        await send(redis, "s.quick", task_id="next")
        assert (await final_state(redis, "next"))["result"] == "quick"
        await until(lambda: not list(worker.unsettled))
        assert worker.concurrency == 1


@pytest.mark.parametrize("waits", [True, False])
async def test_a_task_that_cancels_itself_ends_alone(
    redis_url: str, redis: Redis, waits: bool
) -> None:
    """Its slot is not taken for cancelled, and no later await meets the cancellation."""
    async with serving(redis_url) as worker:
        await send(redis, "s.cancels_itself", waits, task_id="it")
        meta = await final_state(redis, "it")
        assert meta["status"] == ("FAILURE" if waits else "SUCCESS")
        await send(redis, "s.swallow", task_id="next", soft_time_limit=0.1)
        assert (await final_state(redis, "next"))["result"]["exc_type"] == "SoftTimeLimitExceeded"
        await until(lambda: not list(worker.unsettled))


@pytest.mark.parametrize("name", ["s.raises", "s.raises_in_thread"])
async def test_what_is_no_exception_is_a_failure_too(
    redis_url: str, redis: Redis, name: str
) -> None:
    """Whatever a task raises is its own result; neither worker nor neighbours end with it."""
    expected = {
        "exit": "WorkerLostError", "interrupt": "WorkerLostError", "generator": "WorkerLostError",
        "stop": "RuntimeError", "odd": "Odd",
    }  # fmt: skip
    async with serving(redis_url, concurrency=2) as worker:
        await send(redis, "s.blocked", task_id="neighbour")
        for what, exc_type in expected.items():
            await send(redis, name, what, task_id=what)
            meta = await final_state(redis, what)
            assert (meta["status"], meta["result"]["exc_type"]) == ("FAILURE", exc_type)
            assert meta["traceback"].startswith("Traceback (most recent call last)")
        exited = await stored(redis, "exit")
        assert exited is not None
        assert exited["result"]["exc_message"] == [
            "Worker exited prematurely: the task raised SystemExit(3)."
        ]
        release.set()
        assert (await final_state(redis, "neighbour"))["result"] == "released"
        await until(lambda: not list(worker.unsettled))


async def test_limits_count_from_the_call(redis_url: str, redis: Redis) -> None:
    """Functions that never return hold up no later one, which has all of its own time."""
    async with serving(redis_url, concurrency=4) as worker:
        ids = [f"n{number}" for number in range(80)]
        for task_id in ids:
            await send(redis, "s.blocked", task_id=task_id, time_limit=0.01)
        for task_id in ids:
            await final_state(redis, task_id)
        assert sorted(inside) == sorted(ids)
        await send(redis, "s.plain", task_id="next", time_limit=30)
        assert (await final_state(redis, "next"))["result"] == "plain"
        await until(lambda: not list(worker.unsettled))


async def test_what_runs_in_a_thread_is_not_handed_back(redis_url: str, redis: Redis) -> None:
    """A worker that stops keeps the claim of a function it cannot stop, and stores its end."""
    async with serving(redis_url, concurrency=2) as worker:
        await send(redis, "s.blocked", task_id="threaded")
        await send(redis, "s.swallow", task_id="coroutine")
        await until(lambda: inside == ["threaded"] and len(worker.running) == 2)
        await worker.drain(0.05)
        assert await redis.llen("celery") == 1  # the coroutine
        assert await redis.hlen("unacked") == 1
        assert await redis.exists(f"crucible:worker:{worker.worker_id}")
        release.set()
        assert (await final_state(redis, "threaded"))["result"] == "released"


async def test_what_still_runs_in_a_thread_keeps_its_claim(redis_url: str, redis: Redis) -> None:
    """Left for good, its claim and its sign of life are left to run out, for others to take up."""
    async with serving(redis_url, drain_s=0.05) as worker:
        await send(redis, "s.blocked", task_id="threaded")
        await until(lambda: inside == ["threaded"])
    assert await redis.hlen("unacked") == 1
    assert await redis.exists(f"crucible:worker:{worker.worker_id}")


async def test_overridden_limits_are_named(redis_url: str, redis: Redis) -> None:
    """A failure names the limit that was in force, remote control's included."""
    async with serving(redis_url) as worker:
        worker.time_limits["s.swallow"] = (0.1, None)
        await send(redis, "s.swallow", task_id="it")
        assert (await final_state(redis, "it"))["result"]["exc_message"] == [0.1]
