"""Whatever is killed under programs in lanes: none is lost, each has one result, nothing is left.

A program is under way once its ``sleep`` is seen in a container; each test has a length of its own.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiodocker
import pytest
from support.api_rig import ended, running_api
from support.own_engine import own_engine
from support.sandboxes import containers_of_processes, sleeping, until_gone
from support.worker_rig import START_S, async_worker, crucible

from crucible.embedded.server import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    import aiohttp
    from redis.asyncio import Redis
    from stock_rig.child import Child

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

#: Programs under way at a kill; a lane runs one at a time.
PROGRAMS = 4
SIZE = {"CRUCIBLE_CONCURRENCY": str(PROGRAMS), "CRUCIBLE_POOL_MIN": "0"}
#: Seconds until all have their results, with what a dead worker's claims need to be taken over.
ENDED_S = 150.0


class Sleepers:
    """Programs that wait a while and then end well.

    Attributes:
        seconds: how long, as the command has it; nobody else's programs wait as long.
    """

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self.seconds = f"{random.uniform(4.0, 5.0):.6f}"
        code = f"echo begun; sleep {self.seconds}; echo done"
        body = {"code": code, "language": "bash", "isolation": "nested"}
        self._ending = [
            asyncio.create_task(ended(client, {**body, "eval_id": f"k{number}"}))
            for number in range(PROGRAMS)
        ]

    async def under_way(self) -> set[str]:
        """The containers that they run in, once all of them do."""
        async with asyncio.timeout(90):
            while len(found := sleeping(self.seconds)) < PROGRAMS:
                await asyncio.sleep(0.02)
        assert len(set(found.values())) == PROGRAMS, "two programs were in one lane"
        return set(found.values())

    async def under_way_again(self, lanes: Collection[str]) -> None:
        """Return once all of them run, or have run, in other containers than ``lanes``."""
        seen: set[str] = set()
        async with asyncio.timeout(90):
            while len(seen) < PROGRAMS:
                found = sleeping(self.seconds).items()
                seen.update(pid for pid, lane in found if lane not in lanes)
                await asyncio.sleep(0.02)

    async def results(self) -> list[dict[str, Any]]:
        """The evaluations, once all have ended."""
        async with asyncio.timeout(ENDED_S):
            return await asyncio.gather(*self._ending)


@asynccontextmanager
async def sleepers(client: aiohttp.ClientSession) -> AsyncIterator[Sleepers]:
    """Programs under way or waiting to be."""
    running = Sleepers(client)
    try:
        yield running
    finally:
        for task in running._ending:
            task.cancel()
        await asyncio.gather(*running._ending, return_exceptions=True)


def check(views: list[dict[str, Any]], *, retried: int | None = None) -> None:
    """Every program ended well, in a lane, and wrote what it writes once."""
    assert [view["output"] for view in views] == ["begun\ndone\n"] * PROGRAMS, views
    assert {(view["verdict"], view["isolation"]) for view in views} == {("ok", "nested")}
    if retried is not None:
        assert sum(view["retry_count"] > 0 for view in views) == retried, views


async def check_queue(redis: Redis) -> None:
    """One result each; nothing is claimed, waits, or was given up."""
    async with asyncio.timeout(30):
        while await redis.hlen("unacked"):
            await asyncio.sleep(0.05)
    assert len(await redis.keys("celery-task-meta-*")) == PROGRAMS
    assert not await redis.llen("evaluation")
    assert not await redis.xlen("crucible:dlq")


async def stopped(worker: Child, engine_url: str | None = None) -> None:
    """A worker that was asked to stop leaves nothing."""
    made = await containers_of_processes([worker.pid], engine_url)
    assert made
    assert await worker.stop(60) == 0
    await until_gone(made, engine_url)


async def test_a_killed_worker(redis_url: str, redis: Redis) -> None:
    """SIGKILL of the worker: the next one runs its programs, and removes its lanes."""
    async with running_api(redis_url) as client, sleepers(client) as running:
        async with async_worker(redis_url, **SIZE) as first:
            lanes = await running.under_way()
            made = await containers_of_processes([first.pid])
            assert lanes <= made
            first.send_signal(signal.SIGKILL)
            await first.wait()
        async with async_worker(redis_url, **SIZE) as second:
            check(await running.results())
            await until_gone(made)
            await check_queue(redis)
            await stopped(second)


async def test_killed_lanes(redis_url: str, redis: Redis) -> None:
    """SIGKILL of two lanes: their programs are run again, and the others notice nothing."""
    async with running_api(redis_url) as client, sleepers(client) as running:
        async with async_worker(redis_url, **SIZE) as worker:
            killed = sorted(await running.under_way())[:2]
            async with aiodocker.Docker() as docker:
                await asyncio.gather(*(docker.containers.container(key).kill() for key in killed))
            check(await running.results(), retried=2)
            await until_gone(killed)
            await check_queue(redis)
            await stopped(worker)


async def test_a_killed_executor(redis_url: str, redis: Redis) -> None:
    """SIGKILL of the executor service: the one started in its place runs the programs."""
    port = free_port()
    remote = {**SIZE, "CRUCIBLE_EXECUTOR_URLS": f"http://127.0.0.1:{port}"}
    service = ["executor", "--port", str(port)]
    async with (
        running_api(redis_url) as client,
        async_worker(redis_url, **remote) as worker,
        sleepers(client) as running,
    ):
        async with crucible(service, **SIZE) as first:
            lanes = await running.under_way()
            made = await containers_of_processes([first.pid])
            assert lanes <= made
            first.send_signal(signal.SIGKILL)
            await first.wait()
        async with crucible(service, **SIZE) as second:
            await second.wait_for_log("http://", START_S)
            check(await running.results(), retried=PROGRAMS)
            await until_gone(made)
            await check_queue(redis)
            assert await worker.stop(60) == 0
            await stopped(second)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start an engine")
async def test_a_killed_engine(redis_url: str, redis: Redis) -> None:
    """SIGKILL of the engine: programs are run again once it is back, and all lanes are removed."""
    async with own_engine() as engine, running_api(redis_url) as client:
        async with (
            async_worker(redis_url, CRUCIBLE_DOCKER_URL=engine.url, **SIZE) as worker,
            sleepers(client) as running,
        ):
            lanes = await running.under_way()
            await engine.kill()
            await engine.start()
            # Not asked: whether each counts as a retry. The frame that says that a program has
            # started may have died in the engine; then it has another lane in the same attempt.
            await running.under_way_again(lanes)
            check(await running.results())
            await until_gone(lanes, engine.url)
            await check_queue(redis)
            await stopped(worker, engine.url)
