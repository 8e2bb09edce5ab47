"""The time of a machine jumps while it works: what is to come in a second still does."""

from __future__ import annotations

import asyncio
import time
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal
from unittest import mock

import pytest
from support.api_rig import running_api
from support.patience import PATIENCE_S

from benchmarks.fake_worker import fake_worker
from crucible.broker import Publisher
from crucible.broker.redis.clock import ServerClock
from crucible.worker import TaskRegistry
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from redis.asyncio import Redis

#: Of the machine's time, seconds: more than any test waits.
JUMP_S = 86_400.0
COUNTDOWN_S = 1.0


def test_the_estimate_of_the_servers_time_does_not_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again within seconds; what is due is decided in between."""
    clock, real = ServerClock(), time.time
    assert abs(clock.now() - real()) < JUMP_S / 2
    clock.observe(1_000.0)
    monkeypatch.setattr("time.time", lambda: real() + JUMP_S)
    assert 1_000.0 <= clock.now() < 1_000.0 + JUMP_S / 2
    clock.observe(2_000_000.0)  # that of the server itself has jumped
    assert 2_000_000.0 <= clock.now() < 2_000_000.0 + JUMP_S / 2


@pytest.mark.parametrize("jump_s", [JUMP_S, -JUMP_S], ids=["ahead", "behind"])
@pytest.mark.parametrize("claim", ["atomic", "brpop"])
async def test_a_retry_is_neither_early_nor_late(
    redis_url: str,
    claim: Literal["atomic", "brpop"],
    jump_s: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The jump comes between the claim and the retry, as it did to a worker under load."""
    registry, real = TaskRegistry(), time.time
    runs_s: list[float] = []

    @registry.task("again")
    async def again(ctx: Any) -> str:
        runs_s.append(time.monotonic())
        if len(runs_s) == 1:
            monkeypatch.setattr("time.time", lambda: real() + jump_s)
            raise ctx.retry(countdown=COUNTDOWN_S)
        return "done"

    async with (
        Publisher.connect(redis_url) as publisher,
        Worker(registry, broker_url=redis_url, queues=["celery"], claim=claim),
    ):
        assert await (await publisher.send_task("again")).get(PATIENCE_S) == "done"
        monkeypatch.undo()
    assert runs_s[1] - runs_s[0] >= COUNTDOWN_S - 0.1


@pytest.mark.parametrize("jump_s", [JUMP_S, -JUMP_S], ids=["ahead", "behind"])
async def test_how_long_a_task_took_does_not_jump(
    redis_url: str, jump_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Autoscaling and metrics believe it."""
    registry, real, hooks = TaskRegistry(), time.time, mock.MagicMock()

    @registry.task("jump")
    async def jump(ctx: Any) -> None:
        monkeypatch.setattr("time.time", lambda: real() + jump_s)

    async with (
        Publisher.connect(redis_url) as publisher,
        Worker(registry, broker_url=redis_url, queues=["celery"], hooks=hooks),
    ):
        await (await publisher.send_task("jump")).get(PATIENCE_S)
        monkeypatch.undo()
    [call] = hooks.succeeded.call_args_list
    assert 0.0 <= call.args[2] < PATIENCE_S


async def test_a_session_opens_where_machines_disagree_about_the_time(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By days, api and worker, with every look at a clock."""
    real, jumps = time.time, cycle((0.0, JUMP_S, -JUMP_S))
    async with running_api(redis_url, event_bus_url="off") as client, fake_worker(redis_url):
        monkeypatch.setattr("time.time", lambda: real() + next(jumps))
        for _ in range(6):
            async with client.post("/api/v1/sessions", json={}) as response:
                assert response.status == 201, await response.text()
        monkeypatch.undo()


async def test_a_session_nobody_waits_for_is_not_opened(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reservation is gone, as after an api that died."""
    opened: list[Any] = []

    async def given_up(desk: Any, record: Any, *rest: Any) -> None:
        """Nothing is reserved."""

    monkeypatch.setattr("crucible.sessions.desk.SessionDesk._reserve", given_up)
    monkeypatch.setattr("benchmarks.fake_worker.FakeSession.__init__", opened.append)
    async with running_api(redis_url, event_bus_url="off") as client:
        asking = asyncio.create_task(client.post("/api/v1/sessions", json={}).__aenter__())
        async with asyncio.timeout(PATIENCE_S):
            while not await redis.llen("crucible:sessions:wanted"):
                await asyncio.sleep(0.01)
            async with fake_worker(redis_url):
                while await redis.llen("crucible:sessions:wanted"):
                    await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert opened == []
