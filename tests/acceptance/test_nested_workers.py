"""Lanes through every kind of worker, as a request asks for them and as the setting does."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from support.api_rig import ended, running_api
from support.sandboxes import children_of, containers_of_processes, until_gone
from support.worker_rig import START_S, async_worker, crucible, stock_worker

from crucible.embedded.server import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]

#: What only a program of a lane finds: a user namespace that has not all ids.
CODE = "read -r _ _ ids < /proc/self/uid_map; test $ids -lt 4294967295 && echo in a lane"
SIZE = {"CRUCIBLE_CONCURRENCY": "2", "CRUCIBLE_POOL_MIN": "0"}


@asynccontextmanager
async def serving(kind: str, queue_url: str, **settings: str) -> AsyncIterator[list[int]]:
    """A worker of a kind; the value are the processes that make containers for it."""
    settings |= SIZE
    if kind == "stock":
        async with stock_worker(queue_url, environment=settings) as stock:
            yield children_of(stock.pid)
            assert await stock.stop(60) == 0
    elif kind == "async":
        async with async_worker(queue_url, **settings) as worker:
            yield [worker.pid]
            assert await worker.stop(60) == 0
    else:
        port = free_port()
        async with crucible(["executor", "--port", str(port)], **settings) as service:
            await service.wait_for_log("http://", START_S)
            settings["CRUCIBLE_EXECUTOR_URLS"] = f"http://127.0.0.1:{port}"
            async with async_worker(queue_url, **settings) as worker:
                yield [service.pid]
                assert await worker.stop(60) == 0
            assert await service.stop(60) == 0


@pytest.mark.parametrize("asked", ["request", "setting"])
@pytest.mark.parametrize("kind", ["async", "stock", "executor"])
async def test_a_program_is_in_a_lane(redis_url: str, kind: str, asked: str) -> None:
    """It says so, the answer says so, and a worker that stops leaves no lane."""
    body = {"code": CODE, "language": "bash"}
    settings = {"CRUCIBLE_ISOLATION": "nested"} if asked == "setting" else {}
    if asked == "request":
        body["isolation"] = "nested"
    async with running_api(redis_url) as client:
        async with serving(kind, redis_url, **settings) as makers:
            for _ in range(3):
                view = await ended(client, body)
                assert view["output"] == "in a lane\n", view
                assert view["isolation"] == "nested"
            made = await containers_of_processes(makers)
            assert made
        await until_gone(made)
