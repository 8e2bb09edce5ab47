"""What workers announce of isolations, and what an api without an engine makes of it."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession
from support.api_rig import running_api
from support.patience import PATIENCE_S
from support.worker_rig import async_worker

from crucible.errors import InputError, RequirementError
from crucible.evaluation.isolations import (
    OfferedIsolations,
    announce_isolations,
    read_isolations,
    withdraw_isolations,
)
from crucible.executor import ExecutorConfig, open_executor
from crucible.executor.nested import probe
from crucible.executor.nested.probe import NestedTrial
from crucible.executor.service import open_service
from crucible.redis_keys import ISOLATIONS, ISOLATIONS_TTL_S, Keys

if TYPE_CHECKING:
    from redis.asyncio import Redis

KEYS = Keys()
HOST = socket.gethostname()
NESTED = {"code": "print(1)", "isolation": "nested"}


async def submitted(client: ClientSession, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and body of the answer to a submission."""
    async with client.post("/api/eval", json=body) as response:
        return response.status, await response.json(content_type=None)


async def shown(client: ClientSession) -> dict[str, list[str]]:
    """Hosts by isolation, as ``/ready`` has them."""
    async with client.get("/ready") as response:
        found: dict[str, list[str]] = (await response.json())["isolations"]
        return found


@pytest.mark.parametrize("direct", [True, False])
async def test_what_no_worker_can_give_is_refused(
    redis_url: str, redis: Redis, direct: bool
) -> None:
    """422 names the field and what is offered; others are accepted, and /ready says who has it."""
    await announce_isolations(["container"], "old:1:1", redis, KEYS)
    async with running_api(redis_url, direct=direct) as client:
        status, problem = await submitted(client, NESTED)
        assert (status, problem["field"]) == (422, "isolation")
        assert "no worker can give nested; offered: container" in problem["detail"]
        assert (await submitted(client, {**NESTED, "isolation": "container"}))[0] == 202
        assert (await submitted(client, {"code": "print(1)"}))[0] == 202
        assert await shown(client) == {"container": ["old"], "nested": []}
        await announce_isolations(["container", "nested"], "new:1:1", redis, KEYS)
        await announce_isolations(["container", "nested"], "new:2:1", redis, KEYS)
        assert await shown(client) == {"container": ["new", "old"], "nested": ["new"]}
        async with asyncio.timeout(PATIENCE_S):
            while (await submitted(client, NESTED))[0] != 202:
                await asyncio.sleep(0.1)


async def test_while_nothing_is_announced_all_is_accepted(redis_url: str) -> None:
    """It waits for a worker as every evaluation does."""
    async with running_api(redis_url) as client:
        assert (await submitted(client, NESTED))[0] == 202
        assert await shown(client) == {}


async def test_announcements_end(redis: Redis) -> None:
    """One that is not repeated, withdrawn, or of another version counts no more."""
    await redis.hset(ISOLATIONS, "late:1:1", b'[1,["nested"]]')
    await redis.hset(ISOLATIONS, "other:1:1", b"?")
    assert await read_isolations(redis, KEYS) == {}
    await announce_isolations(["nested"], "here:1:1", redis, KEYS)
    assert await redis.hkeys(ISOLATIONS) == [b"here:1:1"]
    assert 0 < await redis.ttl(ISOLATIONS) <= ISOLATIONS_TTL_S
    assert await read_isolations(redis, KEYS) == {"container": (), "nested": ("here",)}
    await withdraw_isolations("here:1:1", redis, KEYS)
    assert await read_isolations(redis, KEYS) == {}


def test_nothing_at_all_may_be_offered() -> None:
    """The sentence says so."""
    with pytest.raises(InputError, match="none is offered") as caught:
        OfferedIsolations({"container": (), "nested": ()}).check("container")
    assert caught.value.field == "isolation"


@pytest.mark.docker
@pytest.mark.parametrize(
    ("settings", "able"),
    [
        ({}, {"container": [HOST], "nested": [HOST]}),
        ({"CRUCIBLE_DOCKER_RUNTIME": "runsc"}, {"container": [HOST], "nested": []}),
        ({"CRUCIBLE_ISOLATIONS": "container"}, {"container": [HOST], "nested": []}),
    ],
)
async def test_a_worker_announces_what_it_can(
    redis_url: str, settings: dict[str, str], able: dict[str, list[str]]
) -> None:
    """By a lane that it started, or could not, or may not; and no more once it has stopped."""
    async with running_api(redis_url) as client:
        async with async_worker(redis_url, CRUCIBLE_POOL_MIN="0", **settings) as worker:
            async with asyncio.timeout(60):
                while not (found := await shown(client)):
                    await asyncio.sleep(0.05)
            assert found == able
            assert await worker.stop(60) == 0
        assert await shown(client) == {}


@pytest.mark.docker
async def test_services_say_what_each_of_them_can() -> None:
    """Of several, what all can give, since any may get the program."""
    able = ExecutorConfig(pool_min=0)
    unable = ExecutorConfig(pool_min=0, runtime="runsc")
    async with open_service(able) as first, open_service(unable) as second:
        async with open_executor(ExecutorConfig(urls=(first,))) as executor:
            assert await executor.isolations() == ("container", "nested")
        async with open_executor(ExecutorConfig(urls=(first, second))) as executor:
            assert await executor.isolations() == ("container",)


async def test_a_no_is_tried_again_and_a_yes_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator who does what was missing need not restart anything."""
    tries: list[bool] = []

    async def tried(*_: object) -> None:
        tries.append(True)
        if len(tries) == 1:
            raise RequirementError("no profile", "load it")

    monkeypatch.setattr(probe, "probe_nested", tried)
    clock_s = 0.0
    unasked: Any = None
    trial = NestedTrial(unasked, ExecutorConfig(), lambda: clock_s)
    for _ in range(2):
        missing = await trial.missing()
        assert missing is not None
        assert missing.remedy == "load it"
    assert len(tries) == 1
    clock_s = probe.AGAIN_S
    for _ in range(2):
        assert await trial.missing() is None
    assert len(tries) == 2
