"""Circuits of workers on either side, as the api shows them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import running_api
from support.migration_rig import LegacyInstallation, LocalExecutor, until
from support.worker_rig import async_worker

from crucible.breaker import BreakerState, Circuit
from crucible.embedded.server import free_port
from crucible.errors import InputError
from crucible.legacy import LegacyClient, LegacyQueue, work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

OPEN = Circuit(BreakerState.OPEN, 2)


async def circuits(client: aiohttp.ClientSession) -> dict[str, str]:
    """What /ready says."""
    async with client.get("/ready") as response:
        found: dict[str, str] = (await response.json())["circuits"]
    return found


async def metrics(client: aiohttp.ClientSession) -> str:
    """What /metrics says."""
    async with client.get("/metrics") as response:
        return await response.text()


@asynccontextmanager
async def legacy_worker(url: str, told: dict[str, Circuit]) -> AsyncIterator[None]:
    """A legacy worker that tells these circuits."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(
            work(url, LocalExecutor().run, stop, name="told", poll_s=0.01, circuits=lambda: told)
        )
        try:
            yield
        finally:
            stop.set()


async def test_circuits_of_a_workers_executors_are_shown_without_a_legacy_queue(
    redis_url: str,
) -> None:
    """A worker whose executor is gone: open in /ready and /metrics of an api that calls none."""
    dead = f"http://127.0.0.1:{free_port()}"
    environment = {"CRUCIBLE_EXECUTOR_URLS": dead, "CRUCIBLE_BREAKER_FAILURES": "1"}
    async with async_worker(redis_url, **environment), running_api(redis_url) as client:

        async def shown() -> Any:
            return (await circuits(client)).get(f"executor:{dead}") in ("open", "half_open")

        await until(shown)
        text = await metrics(client)
    assert f'circuit_breaker_state{{downstream="executor:{dead}"}}' in text
    assert f'circuit_breaker_opened{{downstream="executor:{dead}"}} 0.0' not in text


async def test_circuits_of_legacy_workers_come_with_their_questions(redis_url: str) -> None:
    """What a legacy worker tells the legacy queue is shown beside the api's own circuits."""
    told = {"executor:http://old:8003": OPEN}
    async with LegacyInstallation(LocalExecutor(), 0) as legacy, legacy_worker(legacy.url, told):
        async with running_api(redis_url, queue_service_url=legacy.url) as client:

            async def shown() -> Any:
                return await circuits(client) == {
                    "executor:http://old:8003": "open",
                    **dict.fromkeys(("legacy", "queue", "records"), "closed"),
                }

            await until(shown)
            text = await metrics(client)
    assert 'circuit_breaker_state{downstream="executor:http://old:8003"} 2.0' in text
    assert 'circuit_breaker_opened{downstream="executor:http://old:8003"} 2.0' in text
    assert 'circuit_breaker_state{downstream="legacy"} 0.0' in text


async def test_circuits_that_are_nonsense_are_refused() -> None:
    """A question with circuits that cannot be read is a 422, and takes no task."""
    async with LegacyInstallation(LocalExecutor(), 0) as legacy, LegacyClient(legacy.url) as client:
        with pytest.raises(InputError) as caught:
            await client._send("GET", "/tasks/next", query={"circuits": '{"a": ["ajar", 1]}'})
        assert caught.value.field == "circuits"


def test_circuits_of_a_worker_that_went_silent_are_forgotten() -> None:
    """After a minute nobody is told of a worker that may be no more."""
    now = 100.0
    queue = LegacyQueue(clock=lambda: now)
    queue.take("a", {"x": OPEN})
    assert queue.stats().circuits == {"x": OPEN}
    now += 61
    assert queue.stats().circuits == {}
    queue.take("a", {"x": Circuit(BreakerState.CLOSED)})
    queue.take("a")
    assert queue.stats().circuits == {}
